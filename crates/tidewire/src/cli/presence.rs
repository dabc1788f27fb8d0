use clap::Args;
use tidewire_model::Channel;

use super::Remote;
use super::value::parse_channel;

#[derive(Args, Debug)]
pub struct Presence {
    /// Channel whose members to print
    #[arg(value_parser = parse_channel)]
    pub channel: Channel,
    /// Print how many there are, and nobody
    #[arg(long, conflicts_with_all = ["watch", "enter"])]
    pub count: bool,
    /// Go on, and print who comes and goes
    #[arg(long)]
    pub watch: bool,
    /// Be a member while it runs, and say this: JSON if it is valid JSON, a JSON string otherwise
    #[arg(long, value_name = "DATA", requires = "watch")]
    pub enter: Option<String>,
    #[command(flatten)]
    pub remote: Remote,
}
