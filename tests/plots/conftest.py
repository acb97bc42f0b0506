"""Every figure is drawn in the site's look, and closed."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from lib import plots


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        plots.use_style()
        yield
    assert plt.get_fignums() == [], "every figure is closed"
