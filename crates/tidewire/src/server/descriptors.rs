//! File descriptors, of which every connection takes one.

/// What a node needs beside its connections: listeners, runtimes, NATS, Redis, logs, and plain HTTP.
const BESIDE: u64 = 1_024;

/// Lets the process have as many descriptors as the system allows it, and says how many that is.
///
/// # Errors
///
/// When the system does not say or does not let us.
pub(crate) fn raise() -> std::io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// What to tell the operator if that many connections do not fit.
pub(crate) fn shortage(max_connections: usize, descriptors: u64) -> Option<String> {
    let fitting = descriptors.saturating_sub(BESIDE);
    if u64::try_from(max_connections).is_ok_and(|wanted| wanted <= fitting) {
        return None;
    }
    Some(format!(
        "server.max_connections is {max_connections}, but the process may have {descriptors} file \
         descriptors, which is enough for {fitting} connections: raise the hard limit (`ulimit -Hn`, \
         LimitNOFILE, the container's nofile) or lower server.max_connections"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_do_not_fit_beside_everything_else_are_a_shortage() {
        assert_eq!(shortage(100_000, 101_024), None);
        assert_eq!(shortage(1, u64::MAX), None);

        let told = shortage(100_000, 101_023).expect("a shortage");

        assert!(told.contains("max_connections is 100000"), "{told}");
        assert!(told.contains("enough for 99999 connections"), "{told}");
        assert!(shortage(1, 20).is_some_and(|told| told.contains("enough for 0 connections")));
    }

    #[test]
    fn raising_the_limit_reaches_what_the_system_allows() {
        let raised = raise().expect("a limit");

        let (soft, hard) = rlimit::Resource::NOFILE.get().expect("a limit");
        assert_eq!((raised, soft), (hard, hard));
    }
}
