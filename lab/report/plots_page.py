"""Write the page that `dvc plots` fills, with Vega inside it: python -m lab.report.plots_page FILE

DVC's own page loads Vega from the internet and stays blank without it.
"""

from argparse import ArgumentParser
from pathlib import Path

import vl_convert

# DVC puts its plots in place of {plot_divs}; its {scripts} would load Vega from the internet.
PAGE = """<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>Active learning, compared</title>
<style>
body { font-family: sans-serif; margin: 2em; }
</style>
<script>
VEGA
</script>
</head>
<body>
<h1>Active learning, compared</h1>
{plot_divs}
</body>
</html>
"""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write the page")
    file = parser.parse_args().file
    file.write_text(PAGE.replace("VEGA", vl_convert.javascript_bundle().replace("</script", "<\\/script")))


if __name__ == "__main__":
    main()
