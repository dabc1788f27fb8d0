//! What a node cannot go on after: a part of it is gone, and its clients are better off elsewhere.

use std::panic::{self, PanicHookInfo};
use std::thread;

use tokio::sync::mpsc;

/// Hears of breakdowns, anywhere in this process.
pub(crate) struct Breakdowns {
    reporter: Reporter,
    reported: mpsc::Receiver<String>,
}

/// Says that something is gone for good.
#[derive(Clone)]
pub(crate) struct Reporter(mpsc::Sender<String>);

/// The first one ends the node; what else comes of it says nothing new.
const REMEMBERED: usize = 1;

impl Breakdowns {
    /// Takes every panic for a breakdown from now on. The runtime would let a panic end one task and
    /// nothing else, but a task here is a worker with all its connections, or a shard with its channels.
    pub(crate) fn listen() -> Self {
        let breakdowns = Self::of_reports();
        let (before, reporter) = (panic::take_hook(), breakdowns.reporter());
        panic::set_hook(Box::new(move |panic| {
            before(panic);
            reporter.report(describe(panic));
        }));
        breakdowns
    }

    fn of_reports() -> Self {
        let (sender, reported) = mpsc::channel(REMEMBERED);
        Self { reporter: Reporter(sender), reported }
    }

    pub(crate) fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Waits for the next, as a sentence for the operator. Cancel-safe.
    pub(crate) async fn next(&mut self) -> String {
        self.reported.recv().await.expect("we hold a sender ourselves")
    }
}

impl Reporter {
    /// Never waits. What does not fit is dropped: see [`REMEMBERED`].
    pub(crate) fn report(&self, what: String) {
        drop(self.0.try_send(what));
    }
}

/// Names the place and not the message, which may hold what a client sent.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name");
    match panic.location() {
        Some(place) => format!("a task panicked on thread {thread}, at {place}"),
        None => format!("a task panicked on thread {thread}"),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::server::threads::Threads;

    #[tokio::test]
    async fn a_panic_of_a_task_on_a_thread_is_a_breakdown() {
        let mut breakdowns = Breakdowns::listen();
        let threads = Threads::start(NonZeroUsize::MIN).expect("a thread");

        let task = threads.runtimes()[0].spawn(async { panic!("what a client sent") });

        let heard = breakdowns.next().await;
        drop(panic::take_hook());
        assert!(heard.starts_with("a task panicked on thread tidewire-0, at "), "{heard}");
        assert!(!heard.contains("client"), "{heard}");
        assert!(task.await.is_err_and(|error| error.is_panic()));
        threads.end().await;
    }

    #[tokio::test]
    async fn of_several_breakdowns_the_first_is_heard() {
        let mut breakdowns = Breakdowns::of_reports();

        for what in ["a wheel is off", "so is another"] {
            breakdowns.reporter().report(what.into());
        }

        assert_eq!(breakdowns.next().await, "a wheel is off");
    }
}
