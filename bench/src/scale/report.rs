//! Figures, and the bars that some of them have; as a table and as JSON.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Its name in JSON: what was measured, when.
    pub name: String,
    /// What it is, for people.
    pub meaning: String,
    pub value: f64,
    pub unit: &'static str,
    /// What it has to stay below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What the cluster consisted of.
    pub setting: BTreeMap<&'static str, u64>,
    pub figures: Vec<Figure>,
    /// Requests of all keyds in the quiet time, but for watches.
    pub quiet_requests: BTreeMap<String, u64>,
    /// What keyds held at the end that was not so, some of it.
    pub wrong: Vec<String>,
}

impl Report {
    /// Notes a figure without a bar.
    pub fn note(
        &mut self,
        name: impl Into<String>,
        meaning: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        self.figures.push(Figure {
            name: name.into(),
            meaning: meaning.into(),
            value,
            unit,
            below: None,
        });
    }

    /// Notes a figure that has to stay below `bar`.
    pub fn hold(
        &mut self,
        name: impl Into<String>,
        meaning: impl Into<String>,
        value: f64,
        unit: &'static str,
        bar: f64,
    ) {
        self.note(name, meaning, value, unit);
        let figure = self.figures.last_mut().expect("it was just put there");
        figure.below = Some(bar);
    }

    /// The figures from this place on, one line each.
    pub fn lines(&self, from: usize) -> impl Iterator<Item = String> {
        let line = |figure: &Figure| {
            let bar = figure.below.map(|bar| format!("(bar: < {})", shown(bar)));
            let value = shown(figure.value);
            let parts = [value.as_str(), figure.unit, bar.as_deref().unwrap_or_default()];
            let parts = parts.into_iter().filter(|part| !part.is_empty());
            format!("{}: {}", figure.meaning, parts.collect::<Vec<_>>().join(" "))
        };
        self.figures.iter().skip(from).map(line)
    }

    /// Figures that are not below their bars.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.figures.iter().filter(|figure| !figure.holds());
        missed
            .map(|figure| format!("{} {} {}", figure.name, shown(figure.value), figure.unit))
            .collect()
    }

    /// As a table.
    pub fn render(&self) -> String {
        let setting = self.setting.iter().map(|(name, value)| format!("{value} {name}"));
        let mut text = setting.collect::<Vec<_>>().join(", ") + "\n\n";
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["figure", "value", "unit", "bar", ""]);
        for (number, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if number == 1 || number == 3 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for figure in &self.figures {
            let bar = figure
                .below
                .map_or_else(|| "-".to_owned(), |bar| format!("< {}", shown(bar)));
            let holds = if figure.holds() { "" } else { "MISSED" };
            table.add_row([
                figure.meaning.as_str(),
                &shown(figure.value),
                figure.unit,
                &bar,
                holds,
            ]);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", table.trim_fmt());
        if !self.quiet_requests.is_empty() {
            let asked = self
                .quiet_requests
                .iter()
                .map(|(what, count)| format!("{count} {what}"));
            let _ = writeln!(
                text,
                "\nin the quiet time: {}",
                asked.collect::<Vec<_>>().join(", ")
            );
        }
        for wrong in &self.wrong {
            let _ = writeln!(text, "wrong: {wrong}");
        }
        text
    }
}

impl Figure {
    /// Whether it is below its bar, if it has one.
    pub fn holds(&self) -> bool {
        self.below.is_none_or(|bar| self.value < bar)
    }
}

/// So much of the durations are at most this, in milliseconds: of `share` 0.99, 99 of 100. None is 0.
pub fn percentile_ms(durations: &[Duration], share: f64) -> f64 {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() as f64 * share).ceil() as usize;
    let found = sorted.get(place.saturating_sub(1));
    found.map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
}

fn shown(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ninety_ninth_of_a_hundred_is_the_percentile() {
        let durations: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile_ms(&durations, 0.99), 99.0);
        assert_eq!(percentile_ms(&durations, 0.5), 50.0);
        assert_eq!(percentile_ms(&durations[..1], 0.99), 100.0);
        assert_eq!(percentile_ms(&[], 0.99), 0.0);
    }

    #[test]
    fn a_figure_at_its_bar_is_not_below_it() {
        let mut report = Report::default();
        report.note("free", "has no bar", 1e9, "B");
        report.hold("under", "is under its bar", 0.5, "s", 1.0);
        report.hold("at", "is at its bar", 60.0, "MiB", 60.0);
        assert_eq!(report.missed(), ["at 60.0 MiB"]);
        assert_eq!(report.render().matches("MISSED").count(), 1);
        let lines: Vec<_> = report.lines(2).collect();
        assert_eq!(lines, ["is at its bar: 60.0 MiB (bar: < 60.0)"]);
    }
}
