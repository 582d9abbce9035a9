//! Schemas of the fields whose Rust types belong to other crates, and of conditions.
//!
//! Each stands in a `#[schemars(with = …)]`. They keep to what the API server takes as structural: no reference, no
//! format it doesn't know, a bound on every length, from which it estimates what a rule may cost. A rule that
//! would fail for a value that an earlier one refuses lets it pass, so that there is one message to each mistake.

use std::borrow::Cow;

use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Longest text of an address: IPv6 with an embedded IPv4 address.
const MAX_ADDRESS: usize = 45;
/// That and `/128`.
const MAX_PREFIX: usize = MAX_ADDRESS + 4;
/// That in brackets, and a port.
const MAX_ENDPOINT: usize = MAX_ADDRESS + 8;

/// A prefix of unicast addresses, without host bits.
pub(crate) struct Prefix;

impl JsonSchema for Prefix {
    fn schema_name() -> Cow<'static, str> {
        "Prefix".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_PREFIX,
            "x-kubernetes-validations": [
                Rule::new("isCIDR(self)").message("is no prefix, such as 10.77.1.0/24 or fd77:1::/64"),
                // Which prefix may be meant cannot be said: the text of one counts as endless in a message's cost.
                Rule::new("!isCIDR(self) || cidr(self) == cidr(self).masked()")
                    .message("has bits set behind its length: 10.77.1.0/16, say, where 10.77.0.0/16 is meant"),
                Rule::new("!isCIDR(self) || cidr(self).masked().ip().isGlobalUnicast()").message(
                    "is no prefix of unicast addresses, but of everything, loopback, link-local or multicast",
                ),
            ],
        })
    }
}

/// A node's address.
pub(crate) struct Address;

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_ADDRESS,
            "x-kubernetes-validations": [
                Rule::new("isIP(self)").message("is no IP address, such as 192.0.2.1 or 2001:db8::1"),
                Rule::new("!isIP(self) || ip(self).isGlobalUnicast()")
                    .message("no peer can reach it: unspecified, loopback, link-local or multicast"),
            ],
        })
    }
}

/// An address and a UDP port.
pub(crate) struct Endpoint;

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        const SHAPE: &str = r"self.matches('^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$')";
        let host = "self.substring(0, self.lastIndexOf(':')).replace('[', '').replace(']', '')";
        let port = "int(self.substring(self.lastIndexOf(':') + 1))";
        json_schema!({
            "type": "string",
            "maxLength": MAX_ENDPOINT,
            "x-kubernetes-validations": [
                Rule::new(format!("{SHAPE} && isIP({host}) && (ip({host}).family() == 6) == self.startsWith('[')"))
                    .message(
                        "is no ADDRESS:PORT, such as 192.0.2.1:51820 or [2001:db8::1]:51820; host names are not \
                         looked up",
                    ),
                Rule::new(format!("!{SHAPE} || ({port} >= 1 && {port} <= 65535)"))
                    .message("its port has to be between 1 and 65535"),
            ],
        })
    }
}

/// How often keys are renewed. Hours and minutes, since shorter ones are nonsense.
pub(crate) struct Interval;

impl JsonSchema for Interval {
    fn schema_name() -> Cow<'static, str> {
        "Interval".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        const SHAPE: &str = "self.matches('^([0-9]{1,5}h)?([0-9]{1,5}m)?$') && self != ''";
        json_schema!({
            "type": "string",
            "maxLength": 16,
            "x-kubernetes-validations": [
                Rule::new(SHAPE).message("is no duration in hours and minutes, such as 720h or 1h30m"),
                Rule::new(format!("!({SHAPE}) || (duration(self) >= duration('1h') && duration(self) <= duration('8760h'))"))
                    .message("has to be between 1h and 8760h, a year"),
            ],
        })
    }
}

/// Conditions as Kubernetes' own kinds have them, one of each type. Bounds and patterns are `metav1.Condition`'s.
pub(crate) struct Conditions;

impl JsonSchema for Conditions {
    fn schema_name() -> Cow<'static, str> {
        "Conditions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "maxItems": 16,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                "properties": {
                    "type": {
                        "description": "What is said to hold or not.",
                        "type": "string",
                        "maxLength": 316,
                        "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    },
                    "status": {
                        "description": "Whether it holds.",
                        "type": "string",
                        "enum": ["True", "False", "Unknown"],
                    },
                    "reason": {
                        "description": "Why, in one word for programs.",
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 1024,
                        "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    },
                    "message": {
                        "description": "Why, for people. May be empty.",
                        "type": "string",
                        "maxLength": 32768,
                    },
                    "lastTransitionTime": {
                        "description": "When status last changed.",
                        "type": "string",
                        "format": "date-time",
                    },
                    "observedGeneration": {
                        "description": "The metadata.generation that this is about.",
                        "type": "integer",
                        "format": "int64",
                        "minimum": 0,
                    },
                },
            },
        })
    }
}
