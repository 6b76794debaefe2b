//! A load's figures as an SVG: one panel for each, medians as bars, and a line from the least to the greatest value.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figures::{Better, Results, Row};
use crate::peer::Peer;
use crate::spread::number;

const COLUMNS: usize = 3;
/// Of a panel, in pixels.
const SIZE: (u32, u32) = (340, 280);
const HEAD: u32 = 60;
const INK: RGBColor = RGBColor(40, 40, 40);
/// Told apart by those who see no red or green, too.
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(230, 159, 0)];

/// Writes `LOAD.svg` into a folder, which is made where it is not there.
pub(crate) fn write(folder: &Path, results: &Results) {
    let file = folder.join(format!("{}.svg", results.load.name()));
    let drawn = fs::create_dir_all(folder).map_err(Into::into).and_then(|()| draw(&file, results));
    drawn.unwrap_or_else(|error: Box<dyn Error>| panic!("--svg {}: {error}", file.display()));
}

fn draw(file: &Path, results: &Results) -> Result<(), Box<dyn Error>> {
    let lines = results.rows.len().div_ceil(COLUMNS).max(1);
    let size = (SIZE.0 * COLUMNS as u32, SIZE.1 * lines as u32 + HEAD);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(HEAD);
    let title = format!("{}: medians, and lines from the least to the greatest of all rounds", results.load.name());
    head.draw_text(&title, &("sans-serif", 22).into_font().color(&INK), (12, 8))?;
    head.draw_text(&results.shape, &("sans-serif", 13).into_font().color(&INK), (12, 36))?;
    for (row, area) in results.rows.iter().zip(body.split_evenly((lines, COLUMNS))) {
        panel(&area, row)?;
    }
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(area: &Area<'_>, row: &Row) -> Result<(), Box<dyn Error>> {
    let top = Peer::ALL.iter().filter_map(|peer| row.spread(*peer)).map(|spread| spread.max).fold(0.0, f64::max);
    let top = match row.figure.unit {
        // A share of a whole is to be seen as one.
        "%" => 100.0,
        _ if top > 0.0 => top * 1.2,
        _ => 1.0,
    };
    let hint = match row.figure.better {
        Better::Higher => " (more is better)",
        Better::Lower => " (less is better)",
        Better::Neither => "",
    };
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}{hint}", row.figure.label), ("sans-serif", 13).into_font().color(&INK))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(68)
        .build_cartesian_2d((0..1).into_segmented(), 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(INK)
        .y_desc(row.figure.unit)
        .y_labels(5)
        .y_label_formatter(&|value| axis(*value))
        .x_label_formatter(&|segment| match segment {
            SegmentValue::CenterOf(at) => {
                Peer::ALL.get(*at as usize).map(|peer| peer.name().to_owned()).unwrap_or_default()
            }
            SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
        })
        .label_style(("sans-serif", 12).into_font().color(&INK))
        .draw()?;
    let above = Pos::new(HPos::Center, VPos::Bottom);
    for (at, peer) in (0..).zip(Peer::ALL) {
        let Some(spread) = row.spread(peer) else { continue };
        let (left, middle) = (SegmentValue::Exact(at), SegmentValue::CenterOf(at));
        let right = if at == 1 { SegmentValue::Last } else { SegmentValue::Exact(at + 1) };
        let mut bar = Rectangle::new([(left, 0.0), (right, spread.median)], COLOURS[peer as usize].filled());
        bar.set_margin(0, 0, 34, 34);
        chart.draw_series([bar])?;
        let whisker = [(middle.clone(), spread.min), (middle.clone(), spread.max)];
        chart.draw_series([PathElement::new(whisker, INK.stroke_width(2))])?;
        let style = ("sans-serif", 12).into_font().color(&INK).pos(above);
        let label = EmptyElement::at((middle, spread.max)) + Text::new(number(spread.median), (0, -8), style);
        chart.draw_series([label])?;
    }
    Ok(())
}

/// As [`number`], without zeros behind the point.
fn axis(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
