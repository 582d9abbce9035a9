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

/// A label selector.
pub(crate) struct Selector;

impl JsonSchema for Selector {
    fn schema_name() -> Cow<'static, str> {
        "Selector".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Labels that have to match; an empty selector matches all.",
            "properties": {
                "matchLabels": {
                    "description": "Labels with these values.",
                    "type": "object",
                    "maxProperties": 32,
                    "additionalProperties": {"type": "string", "maxLength": 63},
                },
                "matchExpressions": {
                    "description": "What has to hold of labels; all of it.",
                    "type": "array",
                    "maxItems": 32,
                    "items": {
                        "type": "object",
                        "required": ["key", "operator"],
                        "properties": {
                            "key": {"description": "The label.", "type": "string", "maxLength": 317},
                            "operator": {
                                "description": "What has to hold of it.",
                                "type": "string",
                                "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                            },
                            "values": {
                                "description": "For In and NotIn.",
                                "type": "array",
                                "maxItems": 64,
                                "items": {"type": "string", "maxLength": 63},
                            },
                        },
                        "x-kubernetes-validations": [
                            Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)")
                                .message("In and NotIn need values, Exists and DoesNotExist take none"),
                        ],
                    },
                },
            },
        })
    }
}

/// A network without host bits; of everything too.
pub(crate) struct Network;

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_PREFIX,
            "x-kubernetes-validations": [
                Rule::new("isCIDR(self)").message("is no network, such as 10.0.0.0/8 or fd00::/8"),
                Rule::new("!isCIDR(self) || cidr(self) == cidr(self).masked()")
                    .message("has bits set behind its length: 10.77.1.0/16, say, where 10.77.0.0/16 is meant"),
            ],
        })
    }
}

/// A network, and parts that do not belong to it, as NetworkPolicy has it.
pub(crate) struct Block;

impl JsonSchema for Block {
    fn schema_name() -> Cow<'static, str> {
        "Block".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let network = Network::json_schema(generator);
        json_schema!({
            "type": "object",
            "required": ["cidr"],
            "properties": {
                "cidr": network,
                "except": {
                    "description": "Parts of the network that do not belong to it.",
                    "type": "array",
                    "maxItems": 100,
                    "items": network,
                },
            },
        })
    }
}

/// A port, a range of ports or all ports of a protocol, as NetworkPolicy has it.
pub(crate) struct PolicyPort;

impl JsonSchema for PolicyPort {
    fn schema_name() -> Cow<'static, str> {
        "PolicyPort".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "protocol": {
                    "description": "TCP where it is left out.",
                    "type": "string",
                    "enum": ["TCP", "UDP", "SCTP"],
                },
                "port": {
                    "description": "A number, or the name of a port of the destination's containers; every port where it is left out.",
                    "x-kubernetes-int-or-string": true,
                },
                "endPort": {
                    "description": "The last of a range that begins with port.",
                    "type": "integer",
                    "format": "int32",
                    "minimum": 1,
                    "maximum": 65535,
                },
            },
            "x-kubernetes-validations": [
                Rule::new("!has(self.port) || type(self.port) == string || (int(self.port) >= 1 && int(self.port) <= 65535)")
                    .message("port has to be between 1 and 65535, or a name"),
                Rule::new("!has(self.endPort) || (has(self.port) && type(self.port) == int && int(self.port) <= self.endPort)")
                    .message("endPort needs a port that is a number, and may not be below it"),
            ],
        })
    }
}

/// A DNS name, or `*.` and one for all names below it.
pub(crate) struct DnsName;

impl JsonSchema for DnsName {
    fn schema_name() -> Cow<'static, str> {
        "DnsName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 255,
            "pattern": r"^(\*\.)?([A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?\.?$",
        })
    }
}

/// An object's name.
pub(crate) struct ObjectName;

impl JsonSchema for ObjectName {
    fn schema_name() -> Cow<'static, str> {
        "ObjectName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
        })
    }
}

/// A point in time.
pub(crate) struct Moment;

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// A time of a day.
pub(crate) struct Hour;

impl JsonSchema for Hour {
    fn schema_name() -> Cow<'static, str> {
        "Hour".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"})
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
