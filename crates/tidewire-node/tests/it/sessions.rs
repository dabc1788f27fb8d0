use tidewire_broker::Notice;
use tidewire_model::{Identity, Permissions, SessionNonce, Tenant, UserId};
use tidewire_node::SessionError;
use tidewire_session::{SavedPresence, Snapshot};
use tidewire_store::Saved;

use crate::fleet::Fleet;

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_on_another_node_and_the_first_is_told() {
    let Fleet { nodes: [a, b], notices: [told, _], .. } = &mut Fleet::start();
    let opened = a.open_session(&snapshot()).await.expect("opened");

    let (resumed, kept) =
        b.resume_session(opened.key.clone(), opened.generation, nonce(1)).await.expect("resumed");

    assert_eq!(kept, snapshot());
    assert_eq!(resumed.generation, opened.generation.next());
    let notice = told.recv().await.expect("told");
    let Notice::SessionMoved { session, generation, .. } = notice else { unreachable!("moved") };
    assert_eq!((session, generation), (opened.key.session, resumed.generation));
    assert_eq!(a.save_session(&opened, &snapshot()).await.expect("asked"), Saved::Fenced);
    assert_eq!(b.save_session(&resumed, &snapshot()).await.expect("asked"), Saved::Done);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_takes_over_from_itself_tells_itself() {
    let Fleet { nodes: [a], notices: [told], .. } = &mut Fleet::start();
    let opened = a.open_session(&snapshot()).await.expect("opened");

    a.resume_session(opened.key.clone(), opened.generation, nonce(1)).await.expect("resumed");

    assert!(matches!(told.recv().await, Some(Notice::SessionMoved { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_copied_token_gets_nothing_and_disturbs_nobody() {
    let Fleet { nodes: [a, b], notices: [_, told], .. } = &mut Fleet::start();
    let opened = a.open_session(&snapshot()).await.expect("opened");
    b.resume_session(opened.key.clone(), opened.generation, nonce(1)).await.expect("resumed");

    let copy = a.resume_session(opened.key.clone(), opened.generation, nonce(2)).await;

    assert!(matches!(copy, Err(SessionError::Lost)));
    assert!(told.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_released_session_can_be_resumed_inside_its_window_only() {
    let Fleet { nodes: [a, b], .. } = &Fleet::start();
    let opened = a.open_session(&snapshot()).await.expect("opened");

    a.release_session(&opened, &snapshot()).await.expect("released");
    tokio::time::sleep(a.resume_window()).await;
    let (resumed, _) =
        b.resume_session(opened.key.clone(), opened.generation, nonce(1)).await.expect("in time");
    b.release_session(&resumed, &snapshot()).await.expect("released");
    tokio::time::sleep(2 * b.resume_window()).await;
    let late = a.resume_session(resumed.key.clone(), resumed.generation, nonce(2)).await;

    assert!(matches!(late, Err(SessionError::Lost)));
}

fn snapshot() -> Snapshot {
    let identity = Identity {
        tenant: Tenant::parse("acme").expect("tenant"),
        user: UserId::parse("ann").expect("user"),
        permissions: Permissions::all(),
        expires_at: None,
        provenance: None,
    };
    Snapshot {
        identity,
        subscriptions: Vec::new(),
        presence: SavedPresence::default(),
        grants: Vec::new(),
    }
}

fn nonce(number: u8) -> SessionNonce {
    SessionNonce::from_bytes([number; 16])
}
