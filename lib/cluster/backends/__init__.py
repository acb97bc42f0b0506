"""The three ways to compute a step of mean shift, each `shift(data, bandwidth, ...)`, which returns a `Shift`.

`full` looks at all of the data, `cells` at those around a point, `grid` at nodes over which the data were spread.
`lib.cluster.mean_shift` chooses one.
"""
