//! What `hauberk-bench scale` measures.

use clap::{Args, builder::RangedU64ValueParser};

use super::Output;

/// A cluster as the API server shows it, of which a few nodes are real.
#[derive(Debug, Clone, Args)]
pub struct ScaleArgs {
    /// Nodes of the cluster, those with a keyd among them.
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(10..=20_000))]
    pub nodes: usize,
    /// Pods of the cluster, on the nodes without a keyd but two; at most 150 on each.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=150_000))]
    pub pods: usize,
    /// Real keyds, each on a node in network namespaces: two that talk, and others that must not notice.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(3..=7))]
    pub keyds: usize,
    /// Clients that watch all that a keyd watches, and throw it away.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub watchers: usize,
    /// Lanes of each node.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub lanes: u16,
    /// Pods made and removed one after the other, to see how soon all keyds know.
    #[arg(long, default_value_t = 300, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub samples: usize,
    /// Seconds in which nothing changes, to count the requests of that time.
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub steady_seconds: u64,
    /// Minutes of churn, such as 0.5; 0 leaves it out.
    #[arg(long, default_value_t = 5.0, value_name = "MINUTES", value_parser = minutes)]
    pub churn_minutes: f64,
    /// Pods made, and pods removed, in a minute of churn.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub churn_rate: u64,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Shorter than the least, nothing would be compared while it lasts.
fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let (least, most) = (0.25, 24.0 * 60.0);
    if minutes == 0.0 || (least..=most).contains(&minutes) {
        Ok(minutes)
    } else {
        Err(format!("give 0, or {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::{Cli, Command};

    fn scale(args: &[&str]) -> Option<super::ScaleArgs> {
        match Cli::try_parse_from([&["hauberk-bench", "scale"], args].concat()) {
            Ok(Cli {
                command: Command::Scale(scale),
            }) => Some(scale),
            _ => None,
        }
    }

    #[test]
    fn defaults_are_five_hundred_nodes_and_ten_thousand_pods() {
        let args = scale(&[]).unwrap();
        assert_eq!((args.nodes, args.pods), (500, 10_000));
        assert_eq!((args.keyds, args.watchers), (5, 50));
        assert_eq!((args.churn_minutes, args.churn_rate), (5.0, 1000));
    }

    #[test]
    fn a_cluster_that_cannot_be_is_refused() {
        for bad in [
            ["--nodes", "9"],
            ["--keyds", "2"],
            ["--pods", "0"],
            ["--lanes", "17"],
            ["--churn-minutes", "NaN"],
            ["--churn-minutes", "0.1"],
            ["--churn-minutes=-1", "--watchers=1"],
        ] {
            assert!(scale(&bad).is_none(), "{bad:?}");
        }
    }
}
