"""
lemmytx in front of programs that have nothing to do with it: C{python -m benchmarks.programs}, or C{make programs}.

JupyterLab in a browser, pip and twine with a pypiserver, git with git's own HTTP backend, wget and curl with nginx: all
at the same time, each behind its own vhost of one lemmytx, while copies of nginx are killed and started again.
"""
