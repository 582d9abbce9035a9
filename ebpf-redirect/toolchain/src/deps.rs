//! Tells cargo which files the objects were made of, from the dep-info file that the inner cargo wrote.

use std::{fs, path::Path};

/// Prints `rerun-if-changed` for each source in `dep_info`, and for the crate's manifest and lock file.
pub(crate) fn print_rerun(dep_info: &Path, crate_dir: &Path) {
    for name in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", crate_dir.join(name).display());
    }
    match fs::read_to_string(dep_info) {
        Ok(text) => {
            for source in sources(&text) {
                println!("cargo::rerun-if-changed={source}");
            }
        }
        // Without the list, all that lies in the crate counts; its path dependencies are then missed.
        Err(_) => println!("cargo::rerun-if-changed={}", crate_dir.join("src").display()),
    }
}

/// The prerequisites in a Makefile rule, in which a space within a name is written `\ `.
fn sources(text: &str) -> Vec<String> {
    let Some((_, prerequisites)) = text.lines().next().and_then(|rule| rule.split_once(": ")) else {
        return Vec::new();
    };
    prerequisites
        .replace("\\ ", "\0")
        .split_whitespace()
        .map(|source| source.replace('\0', " "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::sources;

    #[test]
    fn sources_of_a_rule_are_split_at_unescaped_spaces() {
        assert_eq!(
            sources("/o/a: /s/main.rs /s/with\\ space.rs\n"),
            ["/s/main.rs", "/s/with space.rs"]
        );
        assert!(sources("").is_empty());
    }
}
