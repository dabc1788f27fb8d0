use clap::Args;
use tidewire_model::NodeId;

use super::value::parse_node;

#[derive(Args, Debug)]
pub struct Drain {
    /// Node to drain [default: the one that is asked]
    #[arg(value_parser = parse_node)]
    pub node: Option<NodeId>,
    /// Operators' listener of any live node
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    pub url: String,
    /// Return when the node has gone
    #[arg(long)]
    pub wait: bool,
    /// Return when the node takes nobody new, for a balancer that is to forget it meanwhile
    #[arg(long, conflicts_with = "wait")]
    pub wait_announced: bool,
}
