//! DNS names as policies write them.

/// A name, or all names below one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// This name.
    Exactly(String),
    /// Names with one or more labels before this one, but not the name itself.
    Below(String),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Labels have 1 to 63 of these characters.
    #[error("{0:?} is no DNS name, such as api.example.com or *.example.com")]
    NoName(String),
    /// Only whole labels at the beginning.
    #[error("{0:?}: * stands for whole labels at the beginning only, as in *.example.com")]
    Wildcard(String),
}

/// RFC 1035 §2.3.4, without the dot at the end.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

impl NamePattern {
    /// Reads `api.example.com` or `*.example.com`; case and a dot at the end say nothing.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (below, rest) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, name.as_str()),
        };
        if rest.contains('*') {
            return Err(NameError::Wildcard(text.to_owned()));
        }
        if name.len() > MAX_NAME || !rest.split('.').all(is_label) {
            return Err(NameError::NoName(text.to_owned()));
        }
        Ok(match below {
            true => Self::Below(rest.to_owned()),
            false => Self::Exactly(rest.to_owned()),
        })
    }

    /// Whether it stands for a name, which is in lower case and has no dot at the end.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exactly(exact) => name == exact,
            Self::Below(parent) => name
                .strip_suffix(parent.as_str())
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
        }
    }
}

/// Underscores are no host names' (RFC 1123) but services' (RFC 2782), whose names pods ask for too.
fn is_label(label: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = label.as_bytes();
    let ends = bytes.first().copied().is_some_and(edge) && bytes.last().copied().is_some_and(edge);
    ends && bytes.len() <= MAX_LABEL && bytes.iter().all(|&byte| edge(byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_or_more_labels_and_not_for_none() {
        let below = NamePattern::parse("*.Example.COM.").unwrap();
        let names = [
            "example.com",
            "www.example.com",
            "a.b.example.com",
            "myexample.com",
            "com",
        ];
        assert_eq!(
            names.map(|name| below.matches(name)),
            [false, true, true, false, false]
        );
        let exact = NamePattern::parse("example.com").unwrap();
        assert_eq!(
            names.map(|name| exact.matches(name)),
            [true, false, false, false, false]
        );
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_was_written() {
        for text in [
            "",
            ".",
            "a..b",
            "-a.com",
            "a-.com",
            "exa mple.com",
            "*",
            "**.com",
            "a.*.com",
            "*a.com",
        ] {
            let error = NamePattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        assert!(NamePattern::parse(&"a.".repeat(128)).is_err());
        assert!(NamePattern::parse(&format!("{}.com", "a".repeat(64))).is_err());
    }
}
