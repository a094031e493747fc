//! The chart, in SVG: bars of requests per second, a panel for each scenario. Its colours are those of the reader's
//! page, light or dark, and behind it is nothing.

use std::fmt::{self, Write};

use crate::measure::Series;
use crate::peers;
use crate::scenario::{Cores, Scenario, size_in_words};
use crate::statistics::median_of;

/// A scenario and what has come of it.
pub(crate) type Measured = (Scenario, Vec<Series>);

const WIDTH: usize = 840;
const COLUMNS: usize = 2;
const MOST_PANELS: usize = 6;
const PANEL: usize = WIDTH / COLUMNS;
const TITLE: usize = 44;
const HEADING: usize = 34;
const ROW: usize = 22;
const BAR: usize = 14;
/// Where bars begin in their panel, after the names.
const BARS_AT: usize = 116;
/// What the longest takes, with room for its number after it.
const LONGEST: usize = PANEL - BARS_AT - 72;

const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}\
.title{font-size:15px;font-weight:600}.heading{font-weight:600}.number{font-size:12px;fill:#59636e}\
.bare{fill:#8c959f}.ours{fill:#cf5a13}.other{fill:#5b8fc7}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.number{fill:#9198a1}\
.bare{fill:#7d8590}.ours{fill:#f0883e}.other{fill:#4b81bd}}";

/// Those that say most: small messages on one connection, as long as there are any.
fn chosen(all: &[Measured]) -> Vec<&Measured> {
    let telling = |measured: &&Measured| {
        measured.0.size == Scenario::SMALL && measured.0.connections == 1 && longest(measured) > 0.0
    };
    let mut chosen: Vec<_> = all.iter().filter(telling).collect();
    if chosen.is_empty() {
        chosen.extend(all.iter().filter(|measured| longest(measured) > 0.0));
    }
    // With more than there is room for, what lies between the ends is left out.
    let outstanding = |measured: &&Measured| measured.0.outstanding;
    let ends = [
        chosen.iter().map(outstanding).min(),
        chosen.iter().map(outstanding).max(),
    ];
    if chosen.len() > MOST_PANELS {
        chosen.retain(|measured| ends.contains(&Some(measured.0.outstanding)));
    }
    chosen.truncate(MOST_PANELS);
    chosen
}

fn rate(series: &Series) -> Option<f64> {
    median_of(series, |turn| turn.rate())
}

fn longest((_, all): &Measured) -> f64 {
    all.iter().filter_map(rate).fold(0.0, f64::max)
}

fn heading(scenario: &Scenario) -> String {
    let outstanding = match scenario.outstanding {
        1 => "one at a time".to_owned(),
        many => format!("{many} outstanding"),
    };
    let cores = match scenario.cores {
        Cores::One => "one core",
        Cores::Two => "two cores",
        Cores::Any => "not pinned",
    };
    let mut heading = format!("{outstanding}, {cores}");
    if scenario.size != Scenario::SMALL {
        let _ = write!(heading, ", {}", size_in_words(scenario.size));
    }
    if scenario.connections != 1 {
        let _ = write!(heading, ", {} connections", scenario.connections);
    }
    heading
}

/// A number of requests with as many digits as mean something.
struct Rounded(f64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            few if few < 1e3 => write!(f, "{few:.0}"),
            some if some < 1e4 => write!(f, "{:.1} k", some / 1e3),
            many if many < 1e6 => write!(f, "{:.0} k", many / 1e3),
            most => write!(f, "{:.2} M", most / 1e6),
        }
    }
}

/// The chart; `None` if nothing was measured.
pub(crate) fn chart(all: &[Measured]) -> Option<String> {
    let panels = chosen(all);
    let most_bars = panels.iter().map(|(_, series)| series.len()).max()?;
    let panel_height = HEADING + ROW * most_bars;
    let height = TITLE + panels.len().div_ceil(COLUMNS) * panel_height + 12;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title\">\n\
         <title id=\"title\">Requests per second, echoed between two processes</title>\n\
         <style>{STYLE}</style>\n\
         <text class=\"title\" x=\"8\" y=\"24\">Requests per second, {} echoed between two processes \
         (longer is better)</text>\n",
        size_in_words(panels.first()?.0.size),
    );
    for (number, measured) in panels.iter().enumerate() {
        let left = number % COLUMNS * PANEL;
        let top = TITLE + number / COLUMNS * panel_height;
        panel(&mut svg, measured, left, top);
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn panel(svg: &mut String, measured: &Measured, left: usize, top: usize) {
    let longest = longest(measured);
    let (scenario, all) = measured;
    let _ = writeln!(
        svg,
        "<text class=\"heading\" x=\"{}\" y=\"{}\">{}</text>",
        left + 8,
        top + 20,
        heading(scenario)
    );
    for (place, series) in all.iter().enumerate() {
        let name = series.peer.name();
        let class = match name {
            peers::BARE => "bare",
            _ if name.starts_with(peers::OURS) => "ours",
            _ => "other",
        };
        let bar_top = top + HEADING + ROW * place;
        let baseline = bar_top + BAR - 3;
        let bars_left = left + BARS_AT;
        let _ = writeln!(
            svg,
            "<text text-anchor=\"end\" x=\"{}\" y=\"{baseline}\">{name}</text>",
            bars_left - 8
        );
        let (length, number) = match rate(series) {
            Some(rate) => (LONGEST as f64 * rate / longest, Rounded(rate).to_string()),
            None => (0.0, "–".to_owned()),
        };
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{bars_left}\" y=\"{bar_top}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text class=\"number\" x=\"{:.1}\" y=\"{baseline}\">{number}</text>",
            bars_left as f64 + length + 6.0
        );
    }
}
