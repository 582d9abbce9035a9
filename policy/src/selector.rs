//! Label selectors, parsed. One that is invalid is an error and never a selector that matches something else.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Matches labels; an empty one matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(BTreeSet<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

/// Why a selector means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Kubernetes has four operators.
    #[error("operator {operator:?} of key {key:?} is none of In, NotIn, Exists, DoesNotExist")]
    Operator {
        /// The label's key.
        key: String,
        /// As written.
        operator: String,
    },
    /// `In` and `NotIn` compare with values.
    #[error("operator {operator} of key {key:?} needs values")]
    NoValues {
        /// The label's key.
        key: String,
        /// As written.
        operator: String,
    },
    /// `Exists` and `DoesNotExist` compare with none.
    #[error("operator {operator} of key {key:?} takes no values")]
    Values {
        /// The label's key.
        key: String,
        /// As written.
        operator: String,
    },
}

impl Selector {
    /// Matches all labels.
    pub fn all() -> Self {
        Self::default()
    }

    /// Reads Kubernetes' form; its `matchLabels` and `matchExpressions` have to match all.
    pub fn parse(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let labels = selector.match_labels.iter().flatten();
        let equal = labels.map(|(key, value)| {
            Ok(Requirement {
                key: key.clone(),
                test: Test::In([value.clone()].into()),
            })
        });
        let expressions = selector.match_expressions.iter().flatten().map(requirement);
        equal.chain(expressions).collect::<Result<_, _>>().map(Self)
    }

    /// Whether all requirements hold.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }

    /// A label that has to be there, and the values of which it has to have one; none where no such label is asked for.
    pub(crate) fn wanted(&self) -> Option<(&str, &BTreeSet<String>)> {
        self.0.iter().find_map(|requirement| match &requirement.test {
            Test::In(values) => Some((requirement.key.as_str(), values)),
            Test::NotIn(_) | Test::Exists | Test::DoesNotExist => None,
        })
    }

    /// The keys of labels on which the answer depends.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|requirement| requirement.key.as_str())
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            // A label that is not there is not in any set (labels.Requirement in k8s.io/apimachinery).
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }
}

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, SelectorError> {
    let LabelSelectorRequirement {
        key,
        operator,
        values,
    } = expression;
    let values: BTreeSet<String> = values.iter().flatten().cloned().collect();
    let (key, operator) = (key.clone(), operator.clone());
    let test = match (operator.as_str(), values.is_empty()) {
        ("In" | "NotIn", true) => return Err(SelectorError::NoValues { key, operator }),
        ("Exists" | "DoesNotExist", false) => return Err(SelectorError::Values { key, operator }),
        ("In", false) => Test::In(values),
        ("NotIn", false) => Test::NotIn(values),
        ("Exists", true) => Test::Exists,
        ("DoesNotExist", true) => Test::DoesNotExist,
        _ => return Err(SelectorError::Operator { key, operator }),
    };
    Ok(Requirement { key, test })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(expressions: &[(&str, &str, &[&str])]) -> Result<Selector, SelectorError> {
        let expressions = expressions
            .iter()
            .map(|(key, operator, values)| LabelSelectorRequirement {
                key: (*key).into(),
                operator: (*operator).into(),
                values: (!values.is_empty()).then(|| values.iter().map(ToString::to_string).collect()),
            });
        Selector::parse(&LabelSelector {
            match_expressions: Some(expressions.collect()),
            match_labels: None,
        })
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn each_operator_matches_as_kubernetes_says() {
        let (web, db, none) = (labels(&[("app", "web")]), labels(&[("app", "db")]), labels(&[]));
        let cases: [(&str, &[&str], [bool; 3]); 4] = [
            ("In", &["web", "api"], [true, false, false]),
            ("NotIn", &["web", "api"], [false, true, true]),
            ("Exists", &[], [true, true, false]),
            ("DoesNotExist", &[], [false, false, true]),
        ];
        for (operator, values, expected) in cases {
            let selector = selector(&[("app", operator, values)]).unwrap();
            let found = [&web, &db, &none].map(|labels| selector.matches(labels));
            assert_eq!(found, expected, "{operator}");
        }
    }

    #[test]
    fn all_requirements_have_to_hold_and_none_match_everything() {
        let both = selector(&[("a", "Exists", &[]), ("b", "DoesNotExist", &[])]).unwrap();
        assert!(both.matches(&labels(&[("a", "")])));
        assert!(!both.matches(&labels(&[("a", ""), ("b", "")])));
        assert!(Selector::all().matches(&labels(&[])));
    }

    #[test]
    fn what_means_nothing_is_an_error_that_names_key_and_operator() {
        let cases: [(&str, &[&str], &str); 4] = [
            ("in", &["x"], "operator \"in\" of key \"app\" is none of"),
            ("In", &[], "operator In of key \"app\" needs values"),
            ("Exists", &["x"], "operator Exists of key \"app\" takes no values"),
            ("", &[], "operator \"\""),
        ];
        for (operator, values, expected) in cases {
            let error = selector(&[("app", operator, values)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
