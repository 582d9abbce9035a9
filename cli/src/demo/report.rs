//! What the demo found: one entry a step, with every condition that did not hold in its words.

use serde::Serialize;
use serde_json::{Map, Value};

/// What `-o json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    pub steps: Vec<Step>,
    /// Whether every step held, and none is missing.
    pub ok: bool,
}

impl Report {
    /// Sums up steps, of which there should have been `expected`.
    pub fn new(steps: Vec<Step>, expected: usize) -> Self {
        let ok = steps.len() == expected && steps.iter().all(|step| step.ok);
        Self { steps, ok }
    }
}

/// One step and what it came to.
#[derive(Debug, Serialize)]
pub struct Step {
    pub name: &'static str,
    /// Whether all its conditions held.
    pub ok: bool,
    /// One line for people: the summary, or what did not hold.
    pub detail: String,
    /// What was measured, units in the names.
    #[serde(flatten)]
    pub figures: Map<String, Value>,
}

/// Collects the conditions and figures of a step while it runs.
#[derive(Debug, Default)]
pub struct Findings {
    failed: Vec<String>,
    figures: Map<String, Value>,
}

impl Findings {
    /// Notes a condition; `otherwise` says what is wrong when it does not hold.
    pub fn expect(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            self.failed.push(otherwise.into());
        }
    }

    /// Notes something that was measured; the name ends in its unit.
    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// A measured time, to the millisecond.
    pub fn seconds(&mut self, name: &str, seconds: f64) {
        self.figure(name, (seconds * 1000.0).round() / 1000.0);
    }

    /// The finished step; `summary` is its detail when everything held.
    pub fn into_step(self, name: &'static str, summary: String) -> Step {
        let ok = self.failed.is_empty();
        let detail = if ok { summary } else { self.failed.join("; ") };
        Step {
            name,
            ok,
            detail,
            figures: self.figures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_holds_only_if_every_condition_did() {
        let mut findings = Findings::default();
        findings.expect(true, "never said");
        findings.expect(false, "7 packets in clear");
        findings.expect(false, "connection reset");
        let step = findings.into_step("crash", "fine".to_owned());
        assert!(!step.ok);
        assert_eq!(step.detail, "7 packets in clear; connection reset");
    }

    #[test]
    fn figures_stand_beside_name_ok_and_detail() {
        let mut findings = Findings::default();
        findings.seconds("stall_seconds", 0.123_456);
        findings.figure("clear_packets", 0);
        let step = serde_json::to_value(findings.into_step("clear", "fine".to_owned())).unwrap();
        let expected = serde_json::json!({
            "name": "clear", "ok": true, "detail": "fine", "stall_seconds": 0.123, "clear_packets": 0,
        });
        assert_eq!(step, expected);
    }

    #[test]
    fn a_missing_step_is_not_ok() {
        let step = Findings::default().into_step("clear", String::new());
        assert!(!Report::new(vec![step], 6).ok);
        assert!(!Report::new(Vec::new(), 6).ok);
    }
}
