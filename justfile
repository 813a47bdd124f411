# `just` lists what there is. Each line is a script that runs without just, too.

_list:
    @just --list

# format, lints, unit and property tests: no server is started
fast:
    tests/fast

# the whole suite, real servers and clients included
test *arguments:
    tests/run {{arguments}}

# the long lane: more seeds of the simulations, more crashes
nightly:
    tests/nightly

# builds the book, and checks its links
book:
    docs/check

# what a change must pass
ci:
    .ci/run
