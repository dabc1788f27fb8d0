use std::str::FromStr;

use clap::Args;
use tidewire_model::{InvalidId, Slot, Tenant};

use super::value::parse_tenant;

#[derive(Args, Debug)]
pub struct Placement {
    /// Tenants to be placed
    #[arg(required = true, value_name = "TENANT", value_parser = parse_tenant)]
    pub tenants: Vec<Tenant>,
    /// Operators' listener of any live node
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    pub url: String,
    /// Ask no node: place them on these slots, each with its weight unless that is 100
    #[arg(long, value_name = "SLOT=WEIGHT", value_delimiter = ',', conflicts_with = "url")]
    pub slots: Vec<Weighted>,
    /// Homes of each tenant, on those slots
    #[arg(
        long,
        value_name = "COUNT",
        requires = "slots",
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(1..=64)
    )]
    pub homes: u8,
    /// Print a JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// A slot and its weight, written `node-a=200`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Weighted {
    pub slot: Slot,
    pub weight: u32,
}

const ORDINARY: &str = "100";

impl FromStr for Weighted {
    type Err = InvalidWeighted;

    fn from_str(text: &str) -> Result<Self, InvalidWeighted> {
        let (slot, weight) = text.split_once('=').unwrap_or((text, ORDINARY));
        let weight = weight.parse().ok().filter(|weight| (1..=256).contains(weight));
        Ok(Self { slot: Slot::parse(slot)?, weight: weight.ok_or(InvalidWeighted::Weight)? })
    }
}

#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidWeighted {
    #[error("a slot's name has 1 to 64 characters from a-z, A-Z, 0-9, `_` and `-`")]
    Slot(#[from] InvalidId),
    #[error("a weight is a whole number from 1 to 256")]
    Weight,
}
