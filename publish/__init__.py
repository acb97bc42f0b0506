"""Execute and render the posts: runner, provenance, preview, command line. No torch; listing needs no package."""
