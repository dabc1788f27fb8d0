//! The hot paths of a node, each done a given number of times and nothing else.
//!
//! `cargo xtask guard` runs this program under callgrind, once for one round of a path and once for
//! two, and takes the difference: what a round costs in instructions, without what it takes to get
//! there. Nothing is timed and nothing comes from outside, so a count says the same on every
//! machine, however busy.
//!
//! `tidewire-guard` lists the paths, one a line, with how often a round does each;
//! `tidewire-guard <path> <rounds>` does one.

#![expect(clippy::print_stdout, reason = "the list of paths is what xtask reads")]

mod compress;
mod fan_out;
mod node;
mod publish;
mod queue;
mod receive;
mod route;
mod samples;
mod send;
mod session;

use std::process::ExitCode;

/// The product's allocator, because allocating is part of most paths.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Something done for a publication or a client, over and over.
struct HotPath {
    name: &'static str,
    /// How often a round does it: enough for what happens now and then to come to an average.
    times: u32,
    /// Does it so many times, after preparations that take as much however many those are.
    work: fn(u32),
}

const PATHS: [HotPath; 14] = [
    HotPath { name: "receive-publish-json", times: 400, work: receive::publish_json },
    HotPath { name: "receive-publish-protobuf", times: 400, work: receive::publish_protobuf },
    HotPath { name: "session-handles-publish", times: 400, work: session::handle_publish },
    HotPath { name: "1000-sessions-meet-run-of-16", times: 20, work: session::meet_run },
    HotPath { name: "publish-64-through-shard-and-log", times: 20, work: publish::through_shard },
    HotPath { name: "fan-out-16-to-100-sockets", times: 100, work: fan_out::to_sockets },
    HotPath { name: "queue-1000-deliveries", times: 20, work: queue::offer_and_take },
    HotPath { name: "hub-lookup-among-2000-channels", times: 10_000, work: route::look_up },
    HotPath { name: "hub-subscriber-comes-and-goes", times: 4_000, work: route::come_and_go },
    HotPath { name: "hub-crowd-of-1000-changes", times: 400, work: route::change_crowd },
    HotPath { name: "prepare-publication-json", times: 400, work: send::one_json },
    HotPath { name: "prepare-publication-protobuf", times: 400, work: send::one_protobuf },
    HotPath { name: "prepare-run-of-16-json", times: 100, work: send::run_json },
    HotPath { name: "deflate-1024-bytes", times: 40, work: compress::deflate },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            for path in &PATHS {
                println!("{} {}", path.name, path.times);
            }
            ExitCode::SUCCESS
        }
        [name, rounds] => repeat(name, rounds),
        _ => ExitCode::FAILURE,
    }
}

fn repeat(name: &str, rounds: &str) -> ExitCode {
    let path = PATHS.iter().find(|path| path.name == name);
    let (Some(path), Ok(rounds)) = (path, rounds.parse::<u32>()) else {
        return ExitCode::FAILURE;
    };
    (path.work)(path.times * rounds);
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_path_has_a_name_of_its_own() {
        let names: HashSet<&str> = PATHS.iter().map(|path| path.name).collect();

        assert_eq!(names.len(), PATHS.len());
    }

    #[test]
    fn every_path_can_be_done() {
        for path in &PATHS {
            (path.work)(2);
        }
    }
}
