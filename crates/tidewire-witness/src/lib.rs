//! What was published and what was heard, held against what was promised.
//!
//! Two judges, for two kinds of run. A [`Checker`] follows one subscription of a load test offset by
//! offset, in constant memory, against the [`Ledger`] of what was acknowledged. An [`Account`] keeps
//! all that everybody said and heard, by publication, and so can judge a run in which the log itself
//! lost its end, went back, and had its end appended again.
//!
//! Nothing here reads a clock or a socket: whoever publishes and listens says what happened and when.

mod account;
mod checker;
mod ledger;
mod random;
mod stamp;

pub use account::{Account, Saying, Verdict};
pub use checker::{Checker, Findings};
pub use ledger::{Acknowledged, Ledger};
pub use random::Random;
pub use stamp::Stamp;
