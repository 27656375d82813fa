"""Write the page that `dvc plots` fills, with Vega inside it: python -m lab.report.plots_page FILE

DVC's own page loads Vega from the internet and stays blank without it, and colours runs by their order.
"""

import json
from argparse import ArgumentParser
from pathlib import Path

import vl_convert

from lab.report import style

# A run has the colour of the optimizer in its name; runs with the same one differ in their dashes.
SCRIPT = """
const OPTIMIZERS = COLOURS, OTHERS = MORE, DASHES = [[1, 0], [6, 3], [2, 2]];
window.vegaEmbed = (target, plot) => {
  const color = (plot.encoding || {}).color;
  if (color && color.scale) {
    const runs = color.scale.domain, others = OTHERS.slice();
    const names = runs.map(run => run.toLowerCase().split(/[^a-z0-9]+/).find(word => word in OPTIMIZERS));
    const dashes = names.map((name, at) => DASHES[
      name ? names.slice(0, at).filter(other => other === name).length % DASHES.length : 0]);
    color.scale.range = names.map((name, at) => OPTIMIZERS[name] || others.shift() || color.scale.range[at]);
    color.title = "run";
    plot.encoding.strokeDash = {field: color.field, title: "run", scale: {domain: runs, range: dashes}};
    Object.assign(plot, {width: 560, height: 360});
  }
  return vegaEmbed(target, plot);
};
"""

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
SCRIPT
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
    colours, more = json.dumps(style.OPTIMIZERS), json.dumps(style.OTHERS)
    script = vl_convert.javascript_bundle(SCRIPT.replace("COLOURS", colours).replace("MORE", more))
    file.write_text(PAGE.replace("SCRIPT", script.replace("</script", "<\\/script")))


if __name__ == "__main__":
    main()
