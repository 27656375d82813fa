"""Write the page that `dvc plots` fills, with Vega inside it: python -m lab.report.plots_page FILE

DVC's own page loads Vega from the internet and stays blank without it, and colours runs by their order.
"""

import json
from argparse import ArgumentParser
from pathlib import Path

import vl_convert

from lab.report import style

SOURCE = Path(__file__)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write the page")
    file = parser.parse_args().file
    script = SOURCE.with_suffix(".js").read_text()
    script = script.replace("COLOURS", json.dumps(style.OPTIMIZERS)).replace("MORE", json.dumps(style.OTHERS))
    script = vl_convert.javascript_bundle(script).replace("</script", "<\\/script")
    # DVC puts its plots in place of {plot_divs}; its {scripts} would load Vega from the internet.
    file.write_text(SOURCE.with_suffix(".html").read_text().replace("SCRIPT", script))


if __name__ == "__main__":
    main()
