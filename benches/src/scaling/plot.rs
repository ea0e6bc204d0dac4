//! Line plots as SVG: panels side by side, linear axes from zero, a legend below the title.

use std::fmt::Write as _;

/// A plot with axes of its own.
pub struct Panel {
    /// What the height is, with its unit.
    pub title: String,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// Points that belong together, with `x` ascending.
pub struct Line {
    /// What they are of.
    pub label: &'static str,
    /// `x` and `y`, not below zero.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 84.0;
const STEP: f64 = WIDTH + LEFT + 24.0;
const COLOURS: [&str; 2] = ["#b45309", "#1d4ed8"];

/// Draws panels; `x` is what the width is.
pub fn svg(x: &str, panels: &[Panel]) -> String {
    let (width, height) = (STEP * panels.len() as f64 + 16.0, TOP + HEIGHT + 56.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (number, line) in panels.first().map_or(&[][..], |panel| &panel.lines).iter().enumerate() {
        let at = LEFT + 140.0 * number as f64;
        let colour = COLOURS[number % COLOURS.len()];
        let _ = writeln!(
            out,
            "<path d=\"M{at} 24h22\" stroke=\"{colour}\" stroke-width=\"3\"/><text x=\"{}\" y=\"28\">{}</text>",
            at + 28.0,
            line.label
        );
    }
    for (number, panel) in panels.iter().enumerate() {
        draw(&mut out, x, panel, LEFT + STEP * number as f64);
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, x: &str, panel: &Panel, left: f64) {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let (right, top) =
        points().fold((0.0, 0.0), |(x, y): (f64, f64), point| (x.max(point.0), y.max(point.1)));
    let (x_step, y_step) = (tick(right), tick(top));
    let (right, top) = (right.max(x_step), (top / y_step).ceil().max(1.0) * y_step);
    let place = |(x, y): (f64, f64)| (left + x / right * WIDTH, TOP + HEIGHT - y / top * HEIGHT);
    let _ =
        writeln!(out, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>", TOP - 14.0, panel.title);
    for number in 0..=(top / y_step).round() as usize {
        let value = y_step * number as f64;
        let y = place((0.0, value)).1;
        let _ = writeln!(
            out,
            "<path d=\"M{left} {y:.1}h{WIDTH}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            left - 6.0,
            y + 4.0
        );
    }
    for number in 0..=(right / x_step).floor() as usize {
        let value = x_step * number as f64;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
            place((value, 0.0)).0,
            TOP + HEIGHT + 18.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{x}</text>",
        left + WIDTH / 2.0,
        TOP + HEIGHT + 38.0
    );
    for (number, line) in panel.lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let places: Vec<(f64, f64)> = line.points.iter().copied().map(place).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in places {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

/// A round distance that divides up to `most` into about four.
fn tick(most: f64) -> f64 {
    let rough = (most / 4.0).max(f64::MIN_POSITIVE);
    let ten = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|round| round * ten).into_iter().find(|step| *step >= rough).unwrap_or(ten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!([tick(1.0), tick(8.0), tick(20_000.0), tick(1343.0)], [0.5, 2.0, 5000.0, 500.0]);
    }

    #[test]
    fn points_lie_where_the_axes_say() {
        let line = Line { label: "ours", points: vec![(0.0, 0.0), (4.0, 8.0)] };
        let text = svg("things", &[Panel { title: "cost".into(), lines: vec![line] }]);
        let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
        assert!(text.contains(&format!("points=\"{LEFT:.1},{bottom:.1} {right:.1},{TOP:.1}\"")), "{text}");
    }
}
