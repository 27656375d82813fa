// A run has the colour of the optimizer in its name; runs with the same one differ in their dashes. A hybrid of two has
// neither colour.
const OPTIMIZERS = COLOURS, OTHERS = MORE, DASHES = [[1, 0], [6, 3], [2, 2]];
window.vegaEmbed = (target, plot) => {
  const color = (plot.encoding || {}).color;
  if (color && color.scale) {
    const runs = color.scale.domain, others = OTHERS.slice();
    const names = runs.map(run => run.includes("_then_") ? undefined
      : run.toLowerCase().split(/[^a-z0-9]+/).find(word => word in OPTIMIZERS));
    const dashes = names.map((name, at) => DASHES[
      name ? names.slice(0, at).filter(other => other === name).length % DASHES.length : 0]);
    color.scale.range = names.map((name, at) => OPTIMIZERS[name] || others.shift() || color.scale.range[at]);
    color.title = "run";
    plot.encoding.strokeDash = {field: color.field, title: "run", scale: {domain: runs, range: dashes}};
    Object.assign(plot, {width: 560, height: 360});
  }
  return vegaEmbed(target, plot);
};
