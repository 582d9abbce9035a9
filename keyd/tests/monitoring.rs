//! deploy/monitoring speaks of metrics, labels and values that keyd prints, and of no others.
//!
//! The oracle is what [`keyd::metrics::render`] prints of a report that has everything in it. Expressions are cut into
//! words; a word that is neither Prometheus' own, nor a label, nor a metric of the oracle fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hauberk_abi as abi;
use keyd::pair::Phase;
use keyd::report::{LaneReport, NodeReport, PeerReport};
use serde_json::Value;

/// Functions, operators and modifiers that the two files use. One that is missing here is soon added.
const WORDS: &[&str] = &[
    "absent",
    "and",
    "by",
    "count",
    "increase",
    "max",
    "min_over_time",
    "on",
    "rate",
    "sum",
    "topk",
    "unless",
];
/// Labels that Prometheus gives each series.
const OF_PROMETHEUS: &[&str] = &["instance", "job"];

#[test]
fn alerts_speak_of_what_keyd_prints() {
    let known = Known::new();
    let rules = alerts();
    assert!(!rules.is_empty());
    for rule in &rules {
        let name = text(&rule["alert"]);
        known.check(text(&rule["expr"]), name);
        for annotation in ["summary", "description"] {
            let words = text(&rule["annotations"][annotation]);
            assert!(!words.contains('\n'), "{name}: {annotation} is more than a line");
            for label in words.split("$labels.").skip(1) {
                known.check_label(word(label), name);
            }
        }
    }
}

#[test]
fn every_alert_waits_has_a_severity_and_says_what_to_do() {
    let rules = alerts();
    let names: BTreeSet<_> = rules.iter().map(|rule| text(&rule["alert"])).collect();
    assert_eq!(names.len(), rules.len(), "an alert's name comes twice");
    for rule in &rules {
        let name = text(&rule["alert"]);
        assert!(
            text(&rule["for"]).ends_with('m'),
            "{name} has no `for` in minutes"
        );
        let severity = text(&rule["labels"]["severity"]);
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        let todo = text(&rule["annotations"]["description"]);
        let points = todo.contains("`hauberk status`") || todo.contains("docs/");
        assert!(points, "{name} does not say where to look");
    }
}

#[test]
fn the_dashboard_speaks_of_what_keyd_prints() {
    let known = Known::new();
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).expect("dashboard.json is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(!panels.is_empty());
    for panel in panels {
        let title = text(&panel["title"]);
        for target in panel["targets"].as_array().expect("targets") {
            known.check(text(&target["expr"]), title);
            for label in text(&target["legendFormat"]).split("{{").skip(1) {
                known.check_label(word(label), title);
            }
        }
    }
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        let query = text(&variable["query"]["query"]);
        let inner = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'));
        let (series, label) = inner.and_then(|inner| inner.rsplit_once(", ")).expect(query);
        known.check(series, query);
        known.check_label(label, query);
    }
}

#[test]
fn what_is_misspelt_is_found() {
    let known = Known::new();
    for (wrong, why) in [
        ("rate(hauberk_drop_total[5m])", "hauberk_drop_total"),
        ("hauberg_encrypted == 0", "hauberg_encrypted"),
        ("sum by (raeson) (hauberk_drops_total)", "raeson"),
        ("hauberk_drops_total{peer=\"b\"}", "peer"),
        ("hauberk_drops_total{reason=\"PolicyDenid\"}", "PolicyDenid"),
        (
            "hauberk_drops_total{reason!~\"PolicyDenied|LaneTooBigg\"}",
            "LaneTooBigg",
        ),
        (
            "hauberk_guard_bytes_total{job=~\"$job\", verdict=\"plain\"}",
            "plain",
        ),
        ("hauberk_pair_phase{phase=~\"Sending|Strikt\"} == 1", "Strikt"),
        ("process_cpu_seconds", "process_cpu_seconds"),
    ] {
        let found = known.wrong_in(wrong);
        assert_eq!(found.as_deref(), Some(why), "{wrong}");
    }
}

/// What keyd prints: of each metric its labels, and of each label its values.
struct Known(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Known {
    fn new() -> Self {
        let page = keyd::metrics::render(&everything()).expect("rendered");
        let mut metrics = BTreeMap::<String, BTreeMap<String, BTreeSet<String>>>::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').expect("a series and its value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let metric = metrics.entry(name.to_owned()).or_default();
            for pair in labels
                .trim_end_matches('}')
                .split(',')
                .filter(|pair| !pair.is_empty())
            {
                let (label, value) = pair.split_once('=').expect("a label and its value");
                let values = metric.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
        Self(metrics)
    }

    fn check(&self, expression: &str, place: &str) {
        if let Some(wrong) = self.wrong_in(expression) {
            panic!("{place}: keyd prints no `{wrong}`, in {expression}");
        }
    }

    fn check_label(&self, label: &str, place: &str) {
        assert!(
            self.has_label(label),
            "{place}: no metric has the label `{label}`"
        );
    }

    fn has_label(&self, label: &str) -> bool {
        OF_PROMETHEUS.contains(&label) || self.0.values().any(|labels| labels.contains_key(label))
    }

    /// The first word of a PromQL expression that keyd does not print.
    fn wrong_in(&self, expression: &str) -> Option<String> {
        let mut rest = expression;
        let mut metric = "";
        while let Some(first) = rest.chars().next() {
            if first == '{' {
                let (matchers, after) = rest[1..].split_once('}').expect("matchers end");
                if let Some(wrong) = self.wrong_in_matchers(metric, matchers) {
                    return Some(wrong);
                }
                rest = after;
            } else if first == '[' {
                rest = rest.split_once(']').expect("a range ends").1;
            } else if first.is_ascii_alphabetic() {
                let found = word(rest);
                rest = rest[found.len()..].trim_start();
                if matches!(found, "by" | "on") {
                    let (labels, after) = rest[1..].split_once(')').expect("labels end");
                    if let Some(label) = labels.split(", ").find(|label| !self.has_label(label)) {
                        return Some(label.to_owned());
                    }
                    rest = after;
                } else if found == "up" || self.0.contains_key(found) {
                    metric = found;
                } else if !WORDS.contains(&found) {
                    return Some(found.to_owned());
                }
            } else if first.is_ascii_digit() {
                rest = rest.trim_start_matches(|of: char| of.is_ascii_alphanumeric() || of == '.');
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        None
    }

    fn wrong_in_matchers(&self, metric: &str, matchers: &str) -> Option<String> {
        for matcher in matchers.split(", ") {
            let label = word(matcher);
            if OF_PROMETHEUS.contains(&label) {
                continue;
            }
            let Some(values) = self.0.get(metric).and_then(|labels| labels.get(label)) else {
                return Some(label.to_owned());
            };
            let of_matcher = matcher.split('"').nth(1).expect("a value in quotes");
            if let Some(value) = of_matcher.split('|').find(|value| !values.contains(*value)) {
                return Some(value.to_owned());
            }
        }
        None
    }
}

/// A report in which nothing is left out.
fn everything() -> NodeReport {
    let around = [
        keyd::report::TUN_QUEUE_FULL,
        keyd::report::SOCKET_BUFFER_FULL,
        keyd::report::UNGUARDED_DEVICE,
    ];
    let of_programs = abi::DropReason::ALL.iter().map(|reason| reason.name());
    let of_lanes = hauberk_tunnel::DropReason::ALL.iter().map(|reason| reason.name());
    let reasons = of_programs.chain(of_lanes).chain(around);
    let verdicts = abi::Counter::ALL.iter().map(|counter| counter.name());
    NodeReport {
        peers: Phase::ALL.iter().map(|phase| peer_in(*phase)).collect(),
        dropped: reasons.map(|reason| (reason.to_owned(), 1)).collect(),
        guard: verdicts
            .map(|verdict| (verdict.to_owned(), Default::default()))
            .collect(),
        lanes: vec![LaneReport {
            device: "hbk0".into(),
            ..LaneReport::default()
        }],
        ..NodeReport::default()
    }
}

fn peer_in(phase: Phase) -> PeerReport {
    PeerReport {
        node: format!("in-{}", phase.name()),
        phase: phase.name().to_owned(),
        last_handshake_s: Some(1),
        ..PeerReport::default()
    }
}

fn alerts() -> Vec<Value> {
    let file: Value = serde_yaml_ng::from_str(&file("alerts.yaml")).expect("alerts.yaml is YAML");
    let groups = file["groups"].as_array().expect("groups");
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules").clone())
        .collect()
}

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/monitoring")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The name that `text` begins with.
fn word(text: &str) -> &str {
    let end = text.find(|of: char| !of.is_ascii_alphanumeric() && of != '_');
    &text[..end.unwrap_or(text.len())]
}
