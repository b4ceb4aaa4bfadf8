//! Fronts as one page: the plot as inline SVG, the columns of all rows as JSON, and a script that shows those of the point at
//! the pointer.
//!
//! Nothing of a row ever becomes markup: the SVG is escaped as it is drawn, the JSON has no character that could end its
//! element, and the script only sets text. A policy in the page forbids it to load anything.

use serde_json::{Value, json};

use super::columns;
use crate::error::Result;
use crate::plot;
use crate::table::Front;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Pareto front</title>
<style>
body { margin: 1rem; font: 14px sans-serif; background: #fff; color: #282828; }
#plot { position: relative; display: inline-block; }
#plot svg { display: block; max-width: 100%; height: auto; }
#tip { position: fixed; background: #fff; border: 1px solid #999; border-radius: 4px; box-shadow: 0 2px 8px #0003;
  padding: 4px 8px; font-size: 12px; pointer-events: none; max-width: 60vw; border-spacing: 0; }
#tip th { text-align: left; font-weight: normal; color: #777; padding-right: 1em; vertical-align: top; }
#tip td { overflow-wrap: anywhere; }
#ring { display: none; position: absolute; width: 16px; height: 16px; margin: -9px; border: 2px solid #000;
  border-radius: 50%; pointer-events: none; }
</style>
</head>
<body>
<div id="plot">
"#;

pub(super) fn encode(front: &Front) -> Result<Vec<u8>> {
    let (svg, layout) = plot::svg(front)?;
    let columns = columns::of(front);
    let rows: Vec<Vec<Option<String>>> =
        (0..front.rows.len()).map(|row| columns.iter().map(|c| c.cells.text(row)).collect()).collect();
    // x and y of each row by turns.
    let places: Vec<Vec<Value>> = layout
        .places
        .iter()
        .map(|p| p.iter().flat_map(|at| at.map_or([Value::Null, Value::Null], |(x, y)| [x.into(), y.into()])).collect())
        .collect();
    let data = json!({
        "width": layout.width,
        "height": layout.height,
        "columns": columns.iter().map(|c| &c.name).collect::<Vec<_>>(),
        "rows": rows,
        "places": places,
    });
    // In JSON these three stand in texts only, where an escape means the same.
    let data = data.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let mut page = String::with_capacity(HEAD.len() + svg.len() + data.len() + 4_096);
    page.push_str(HEAD);
    page.push_str(&svg);
    page.push_str("<div id=\"ring\"></div>\n</div>\n<table id=\"tip\" hidden></table>\n");
    page.push_str("<script type=\"application/json\" id=\"front\">");
    page.push_str(&data);
    page.push_str("</script>\n<script>\n");
    page.push_str(include_str!("page.js"));
    page.push_str("</script>\n</body>\n</html>\n");
    Ok(page.into_bytes())
}
