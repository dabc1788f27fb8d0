//! How much memory the node uses of what there is for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use metrics::gauge;
use tidewire_edge::{Edge, Pressure};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What of the limit is used when each level begins, in percent.
const BEGINS_AT: [(Pressure, u64); 3] =
    [(Pressure::Tight, 75), (Pressure::Full, 85), (Pressure::Scarce, 92)];
/// How far below that it ends, in percent: who has just come in is not to be what keeps the next out.
const ENDS_BELOW: u64 = 3;

/// Tells `edge` how near the node is to the end of its memory, until `stop`. `limit` is what an operator
/// has set, in bytes; otherwise the system says what there is, and where it does not, nothing is done.
pub(super) async fn watch(edge: Edge, limit: Option<u64>, stop: CancellationToken) {
    let Some(limits) = Limits::found(Path::new("/"), limit) else {
        return tracing::info!("the system does not say how much memory there is");
    };
    tracing::info!(bytes = limits.bytes, "memory of the node is bounded");
    gauge!("tidewire_memory_bytes", "kind" => "limit").set(as_metric(limits.bytes));
    let mut pressure = Pressure::Ease;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        let Some(used) = limits.used() else { continue };
        pressure = level(pressure, used, limits.bytes);
        gauge!("tidewire_memory_bytes", "kind" => "used").set(as_metric(used));
        gauge!("tidewire_memory_pressure").set(f64::from(pressure as u8));
        edge.feel(pressure, limits.bytes).await;
    }
}

/// The level that `used` bytes of `limit` are, after `before`.
fn level(before: Pressure, used: u64, limit: u64) -> Pressure {
    let is_at = |percent: u64| u128::from(used) * 100 >= u128::from(limit) * u128::from(percent);
    let reached = BEGINS_AT.into_iter().rev().find(|(level, begin)| {
        let slack = if *level <= before { ENDS_BELOW } else { 0 };
        is_at(begin - slack)
    });
    reached.map_or(Pressure::Ease, |(level, _)| level)
}

/// What there is for the node, and how to learn what is used of it.
#[derive(Debug, Eq, PartialEq)]
struct Limits {
    bytes: u64,
    /// What the process itself has.
    status: PathBuf,
    /// Who may have so much together, if that is what bounds it.
    group: Option<Group>,
}

/// A control group that has a limit.
#[derive(Debug, Eq, PartialEq)]
struct Group {
    used: PathBuf,
    stat: PathBuf,
    /// The processes in it.
    members: PathBuf,
    /// What of the statistics are pages of files that nobody has looked at lately: they are dropped
    /// before anybody is killed.
    reclaimable: &'static str,
}

impl Limits {
    /// `root` is `/`, except in tests.
    fn found(root: &Path, limit: Option<u64>) -> Option<Self> {
        let status = root.join("proc/self/status");
        if let Some(bytes) = limit {
            return Some(Self { bytes, status, group: None });
        }
        let machine = kilobytes(&read(&root.join("proc/meminfo"))?, "MemTotal:")?;
        let membership = read(&root.join("proc/self/cgroup")).unwrap_or_default();
        let bounded = groups(root, &membership);
        let tightest = bounded.into_iter().min_by_key(|(bytes, _)| *bytes);
        Some(match tightest.filter(|(bytes, _)| *bytes < machine) {
            Some((bytes, group)) => Self { bytes, status, group: Some(group) },
            None => Self { bytes: machine, status, group: None },
        })
    }

    /// Bytes used: of the process, or of its group if that is the process alone or mostly, as in a
    /// container: what the kernel holds for its sockets counts there only. What others have who share the
    /// group is not for the node to make up for.
    fn used(&self) -> Option<u64> {
        let status = read(&self.status)?;
        let own = kilobytes(&status, "VmRSS:")?;
        let Some(group) = &self.group else { return Some(own) };
        let all = group.used().unwrap_or_default();
        let is_ours = own >= all / 2 || group.is_only(value(&status, "Pid:"));
        Some(if is_ours { own.max(all) } else { own })
    }
}

impl Group {
    fn used(&self) -> Option<u64> {
        let used: u64 = read(&self.used)?.trim().parse().ok()?;
        let reclaimable = value(&read(&self.stat)?, self.reclaimable).unwrap_or_default();
        Some(used.saturating_sub(reclaimable))
    }

    /// Whether nobody else is in it.
    fn is_only(&self, process: Option<u64>) -> bool {
        let members = read(&self.members).unwrap_or_default();
        process.is_some_and(|id| members.trim() == id.to_string())
    }
}

/// The groups above a process that have a limit, and it: of version 2, and of version 1.
fn groups(root: &Path, membership: &str) -> Vec<(u64, Group)> {
    let mut found = Vec::new();
    for line in membership.lines() {
        let Some((controllers, path)) =
            line.split_once(':').and_then(|(_, rest)| rest.split_once(':'))
        else {
            continue;
        };
        let (mount, files, reclaimable) = match controllers {
            "" => ("sys/fs/cgroup", ["memory.max", "memory.current"], "inactive_file"),
            "memory" => (
                "sys/fs/cgroup/memory",
                ["memory.limit_in_bytes", "memory.usage_in_bytes"],
                "total_inactive_file",
            ),
            _ => continue,
        };
        // In a container the path may be the host's: then its own group is what is mounted.
        for ancestor in Path::new(path.trim_start_matches('/')).ancestors() {
            let folder = root.join(mount).join(ancestor);
            let [limit, used] = files.map(|name| folder.join(name));
            let bytes = read(&limit).and_then(|text| text.trim().parse().ok());
            let [stat, members] = ["memory.stat", "cgroup.procs"].map(|name| folder.join(name));
            let group = Group { used, stat, members, reclaimable };
            found.extend(bytes.map(|bytes| (bytes, group)));
        }
    }
    found
}

/// A line such as `VmRSS:  1234 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.checked_mul(1_024)
}

/// The number behind a name, which is the first word of a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut words = lines.find(|words| words.clone().next() == Some(name))?;
    words.nth(1)?.parse().ok()
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
fn as_metric(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A machine of 1,000 kB on which the process has 100 kB, with these files beside.
    fn machine(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().expect("a directory");
        let ordinary = [
            ("proc/meminfo", "MemTotal:        1000 kB\nMemFree:  1 kB\n"),
            (
                "proc/self/status",
                "Name:\ttidewire\nPid:\t7\nVmHWM:\t  900 kB\nVmRSS:\t     100 kB\n",
            ),
        ];
        for (path, text) in ordinary.iter().chain(files) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        root
    }

    /// What there is and what is used of it, in kB.
    fn seen(files: &[(&str, &str)], limit: Option<u64>) -> (u64, Option<u64>) {
        let root = machine(files);
        let limits = Limits::found(root.path(), limit).expect("the system says");
        (limits.bytes / 1_024, limits.used().map(|bytes| bytes / 1_024))
    }

    #[test]
    fn what_an_operator_has_set_goes_before_what_the_system_says() {
        let group = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "204800\n"),
            ("sys/fs/cgroup/memory.current", "153600\n"),
        ];

        assert_eq!(seen(&group, Some(512 * 1_024)), (512, Some(100)));
    }

    #[test]
    fn in_a_group_of_version_2_its_tightest_ancestor_counts_without_what_can_be_dropped() {
        let files = [
            ("proc/self/cgroup", "0::/pods/node\n"),
            ("sys/fs/cgroup/pods/node/memory.max", "max\n"),
            ("sys/fs/cgroup/pods/memory.max", "307200\n"),
            ("sys/fs/cgroup/pods/memory.current", "204800\n"),
            ("sys/fs/cgroup/pods/memory.stat", "anon 1\ninactive_file 51200\nsock 7\n"),
            ("sys/fs/cgroup/memory.max", "409600\n"),
        ];

        assert_eq!(seen(&files, None), (300, Some(150)));
    }

    #[test]
    fn in_a_group_of_version_1_it_is_the_same_and_no_limit_is_the_machines() {
        let membership = ("proc/self/cgroup", "9:cpu:/\n4:memory:/docker/1\n0::/\n");
        let folder = "sys/fs/cgroup/memory/memory";
        let stat = (&*format!("{folder}.stat"), "inactive_file 1\ntotal_inactive_file 10240\n");
        let used = (&*format!("{folder}.usage_in_bytes"), "112640\n");

        let bounded = (&*format!("{folder}.limit_in_bytes"), "512000\n");
        assert_eq!(seen(&[membership, stat, used, bounded], None), (500, Some(100)));
        let unbounded = (&*format!("{folder}.limit_in_bytes"), "9223372036854771712\n");
        assert_eq!(seen(&[membership, stat, used, unbounded], None), (1_000, Some(100)));
    }

    #[test]
    fn what_others_have_who_share_a_group_is_not_the_nodes() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "512000\n"),
            ("sys/fs/cgroup/memory.current", "409600\n"),
            ("sys/fs/cgroup/memory.stat", "inactive_file 0\n"),
        ];

        assert_eq!(seen(&files, None), (500, Some(100)));
        let [membership, limit, used, stat] = files;
        let shared = ("sys/fs/cgroup/cgroup.procs", "7\n8\n");
        assert_eq!(seen(&[membership, limit, used, stat, shared], None), (500, Some(100)));
    }

    #[test]
    fn what_the_kernel_holds_for_who_is_alone_in_a_group_is_the_nodes() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "512000\n"),
            ("sys/fs/cgroup/memory.current", "409600\n"),
            ("sys/fs/cgroup/memory.stat", "sock 307200\ninactive_file 0\n"),
            ("sys/fs/cgroup/cgroup.procs", "7\n"),
        ];

        assert_eq!(seen(&files, None), (500, Some(400)));
    }

    #[test]
    fn where_the_system_says_nothing_nothing_is_found() {
        let root = TempDir::new().expect("a directory");

        assert_eq!(Limits::found(root.path(), None), None);
    }

    #[test]
    fn a_level_begins_where_it_does_and_ends_somewhat_below() {
        let levels = |path: &[u64]| {
            let step = |before: &mut Pressure, used: &u64| {
                *before = level(*before, *used, 1_000);
                Some(*before)
            };
            path.iter().scan(Pressure::Ease, step).collect::<Vec<_>>()
        };

        let (ease, tight) = (Pressure::Ease, Pressure::Tight);
        let (full, scarce) = (Pressure::Full, Pressure::Scarce);
        assert_eq!(levels(&[749, 750, 720, 719, 740]), [ease, tight, tight, ease, ease]);
        assert_eq!(levels(&[849, 850, 820, 819]), [tight, full, full, tight]);
        assert_eq!(levels(&[2_000, 890, 889, 0]), [scarce, scarce, full, ease]);
    }
}
