//! The plugin's entry in a network's configuration: put in, kept as it should be, taken out.
//!
//! The text is edited, not written anew: all that others wrote stays as it is to the byte, and taking the entry out
//! gives back what was there before. Pure.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{PLUGIN, VERSIONS};

/// Why a configuration is left alone.
#[derive(Debug, thiserror::Error)]
pub enum ConflistError {
    /// Not what the specification describes.
    #[error("it is no network configuration: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A chain of nothing.
    #[error("`plugins` is empty")]
    Empty,
    /// A version that the plugin does not speak.
    #[error("its cniVersion is {0}, hauberk-cni speaks 0.3.0 to 1.1.0")]
    Version(String),
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default, rename = "cniVersion")]
    version: String,
    #[serde(rename = "name")]
    _name: String,
    #[serde(borrow)]
    plugins: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Plugin {
    r#type: String,
}

/// The list with `entry` (a JSON object whose type is the plugin's) in it, once; `None` where it is so already.
pub fn chained(list: &str, entry: &str) -> Result<Option<String>, ConflistError> {
    let (parsed, ours) = read(list)?;
    if !VERSIONS.contains(&parsed.version.as_str()) {
        return Err(ConflistError::Version(parsed.version));
    }
    if let [place] = ours[..] {
        let raw = parsed.plugins[place].get();
        let value = |text| serde_json::from_str::<serde_json::Value>(text);
        if value(raw)? == value(entry)? {
            return Ok(None);
        }
        let (before, after) = around(list, raw);
        return Ok(Some(format!("{before}{entry}{after}")));
    }
    let list = unchained(list)?.unwrap_or_else(|| list.to_owned());
    let (parsed, _) = read(&list)?;
    let last = parsed.plugins.last().ok_or(ConflistError::Empty)?;
    let (_, after) = around(&list, last.get());
    let before = &list[..list.len() - after.len()];
    // As the last plugin stands under the one before it, or under the bracket.
    let indent = margin(&list, last.get());
    Ok(Some(format!("{before},{indent}{entry}{after}")))
}

/// The list without the plugin; `None` where it is not in it.
pub fn unchained(list: &str) -> Result<Option<String>, ConflistError> {
    let (parsed, ours) = read(list)?;
    let Some(&place) = ours.first() else {
        return Ok(None);
    };
    let raw = parsed.plugins[place].get();
    let (before, after) = around(list, raw);
    // The comma that it came with goes as well: the one before it, or of a first entry the one after.
    let rest = match before.trim_end().strip_suffix(',') {
        Some(before) => format!("{before}{after}"),
        None => {
            let after = after.trim_start();
            format!(
                "{before}{}",
                after.strip_prefix(',').map_or(after, str::trim_start)
            )
        }
    };
    // Several can only have come from others; all are taken out.
    Ok(Some(unchained(&rest)?.unwrap_or(rest)))
}

/// A list of the one plugin that a plain configuration is: the way a runtime reads it itself (`ConfListFromConf`,
/// libcni), so `name` and `cniVersion` are the list's as well.
pub fn list_of(single: &str) -> Result<String, ConflistError> {
    #[derive(Deserialize)]
    struct Single {
        name: String,
        #[serde(default, rename = "cniVersion")]
        version: String,
        #[serde(rename = "type")]
        _type: String,
    }
    let plugin: Single = serde_json::from_str(single)?;
    let text = |value: &str| serde_json::to_string(value).expect("a string is JSON");
    Ok(format!(
        "{{\n  \"cniVersion\": {},\n  \"name\": {},\n  \"plugins\": [\n    {}\n  ]\n}}\n",
        text(&plugin.version),
        text(&plugin.name),
        single.trim()
    ))
}

/// The list, and the places of the plugin in it.
fn read(list: &str) -> Result<(List<'_>, Vec<usize>), ConflistError> {
    let parsed: List = serde_json::from_str(list)?;
    let mut ours = Vec::new();
    for (place, raw) in parsed.plugins.iter().enumerate() {
        let plugin: Plugin = serde_json::from_str(raw.get())?;
        if plugin.r#type == PLUGIN {
            ours.push(place);
        }
    }
    Ok((parsed, ours))
}

/// What stands before and after `part`, a slice of `whole`.
fn around<'a>(whole: &'a str, part: &str) -> (&'a str, &'a str) {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    (&whole[..start], &whole[start + part.len()..])
}

/// The white space before `part`, back to the end of the line above.
fn margin<'a>(whole: &'a str, part: &str) -> &'a str {
    let (before, _) = around(whole, part);
    let text = before.trim_end();
    &before[text.len()..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENTRY: &str = r#"{"type":"hauberk-cni","timeoutSeconds":20}"#;
    const FLANNEL: &str = "{\n  \"name\": \"cbr0\",\n  \"cniVersion\": \"0.3.1\",\n  \"x\": 1.50,\n  \"plugins\": [\n    {\n      \
        \"type\": \"flannel\", \"delegate\": {\"plugins\": [1]}\n    },\n    { \"type\": \"portmap\" }\n  ],\n  \"odd\": [ ]\n}\n";

    fn types(list: &str) -> Vec<String> {
        let (parsed, _) = read(list).expect("a list");
        let plugin = |raw: &&RawValue| {
            serde_json::from_str::<Plugin>(raw.get())
                .expect("a plugin")
                .r#type
        };
        parsed.plugins.iter().map(plugin).collect()
    }

    #[test]
    fn what_others_wrote_stays_to_the_byte_and_comes_back() {
        let chained_once = chained(FLANNEL, ENTRY).expect("valid").expect("changed");
        assert_eq!(types(&chained_once), ["flannel", "portmap", PLUGIN]);
        assert!(chained_once.contains("\"x\": 1.50"));
        assert_eq!(chained(&chained_once, ENTRY).expect("valid"), None);
        assert_eq!(unchained(&chained_once).expect("valid").as_deref(), Some(FLANNEL));
        assert_eq!(unchained(FLANNEL).expect("valid"), None);
    }

    #[test]
    fn an_entry_with_other_settings_is_replaced_and_several_become_one() {
        let other = ENTRY.replace("20", "5");
        let list = chained(FLANNEL, &other).expect("valid").expect("changed");
        let again = chained(&list, ENTRY).expect("valid").expect("changed");
        assert_eq!(unchained(&again).expect("valid").as_deref(), Some(FLANNEL));
        let twice = list.replace(&other, &format!("{other}, {other}"));
        let once = chained(&twice, ENTRY).expect("valid").expect("changed");
        assert_eq!(types(&once), ["flannel", "portmap", PLUGIN]);
        let alone = format!(r#"{{"name":"n","cniVersion":"1.0.0","plugins":[{ENTRY}, {{"type":"ptp"}}]}}"#);
        assert_eq!(
            types(&unchained(&alone).expect("valid").expect("changed")),
            ["ptp"]
        );
    }

    #[test]
    fn a_plain_configuration_becomes_a_list_of_one() {
        let plain = r#"{"cniVersion":"0.4.0","name":"n","type":"ptp","ipam":{"type":"host-local"}}"#;
        let list = list_of(plain).expect("valid");
        let list = chained(&list, ENTRY).expect("valid").expect("changed");
        assert_eq!(types(&list), ["ptp", PLUGIN]);
    }

    #[test]
    fn what_is_malformed_or_of_another_version_is_left_alone() {
        for list in [
            "",
            "{",
            "[]",
            r#"{"cniVersion":"1.0.0","plugins":[{"type":"x"}]}"#,
            r#"{"name":"n","cniVersion":"1.0.0","plugins":[{}]}"#,
        ] {
            assert!(
                matches!(chained(list, ENTRY), Err(ConflistError::Malformed(_))),
                "{list}"
            );
        }
        let old = r#"{"name":"n","cniVersion":"0.2.0","plugins":[{"type":"x"}]}"#;
        assert!(matches!(chained(old, ENTRY), Err(ConflistError::Version(_))));
        let none = r#"{"name":"n","cniVersion":"1.0.0","plugins":[]}"#;
        assert!(matches!(chained(none, ENTRY), Err(ConflistError::Empty)));
    }

    proptest! {
        #[test]
        fn any_list_that_is_changed_is_a_list_with_the_plugin_once(cut in 0..FLANNEL.len(), byte in 32u8..127,
                                                                   chain_first in any::<bool>()) {
            let mut list = if chain_first { chained(FLANNEL, ENTRY).expect("valid").expect("changed") } else { FLANNEL.to_owned() };
            list.replace_range(cut..cut + 1, &char::from(byte).to_string());
            if let Ok(Some(changed)) = chained(&list, ENTRY) {
                prop_assert_eq!(types(&changed).iter().filter(|kind| *kind == PLUGIN).count(), 1);
                prop_assert_eq!(chained(&changed, ENTRY).expect("valid"), None);
            }
        }
    }
}
