//! Ten rows of the failure matrix on whole clusters, in every test run; `cargo xtask chaos` has the
//! rest.

use tidewire_chaos::rows::row;
use tidewire_chaos::{Setup, Size};
use tokio::sync::Mutex;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_loses_nothing_and_nobody_is_asked_who_they_are() {
    run(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_loses_nothing_and_no_member_leaves() {
    run(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_is_stored_once() {
    run(7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_server_that_is_killed_delays_nobody_for_long() {
    run(11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_promoted_replica_lacks_is_appended_again() {
    run(18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_with_its_data_begins_a_new_life_of_the_log() {
    run(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_whose_answer_is_lost_is_granted_again() {
    run(30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_comes_back_at_once_is_let_in_at_a_pace_and_has_its_sessions() {
    run(34).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_back_before_its_old_node_noticed_was_never_gone() {
    run(29).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_node_without_redis_leave_with_its_lease_and_are_back_with_redis() {
    run(36).await;
}

/// A cluster is a dozen processes: one at a time.
static STAGE: Mutex<()> = Mutex::const_new(());

async fn run(number: u32) {
    let _alone = STAGE.lock().await;
    let row = row(number).expect("there is such a row");

    let outcome = row.run(Setup::new(env!("CARGO_BIN_EXE_tidewire")), Size::SMALL).await;

    if let Err(error) = outcome {
        unreachable!("{error:#}");
    }
}
