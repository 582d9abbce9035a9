//! Who owns an address, a prefix or a key that several objects claim: the same answer on every node.

/// Two objects claim the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// What both claim.
    pub what: String,
    /// Who has it.
    pub winner: String,
    /// Who does not.
    pub loser: String,
}

/// Settled claims.
#[derive(Clone, Debug, Default)]
pub struct Claims;
