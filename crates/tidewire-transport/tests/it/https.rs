use std::time::Duration;

use tidewire_testkit::services::HttpsStub;
use tidewire_transport::guard::Guard;
use tidewire_transport::https::{FetchError, Fetcher, Roots};

const MOST: usize = 1_000;

/// One that may connect to this machine, and trusts nobody but the stub's authority.
fn fetcher() -> Fetcher {
    let roots = Roots::Pem(HttpsStub::AUTHORITY.to_vec());
    Fetcher::new(&roots, here()).unwrap()
}

fn here() -> Guard {
    Guard::new(
        ["127.0.0.0/8", "::1", "::ffff:127.0.0.0/104"].map(|text| text.parse().unwrap()).to_vec(),
    )
}

#[tokio::test]
async fn a_document_is_read_whole_up_to_its_bound() {
    let stub = HttpsStub::start().await;

    stub.answer_with(&"x".repeat(MOST));
    let whole = fetcher().get(&stub.url("/a/b?c=d"), MOST).await.unwrap();
    stub.answer_with(&"x".repeat(MOST + 1));
    let longer = fetcher().get(&stub.url("/"), MOST).await;

    assert_eq!(whole.len(), MOST);
    assert!(matches!(longer, Err(FetchError::TooLarge { most_bytes: MOST })), "{longer:?}");
}

#[tokio::test]
async fn a_body_without_a_length_is_counted_while_it_is_read() {
    let stub = HttpsStub::start().await;

    stub.answer(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(MOST + 1)));
    let longer = fetcher().get(&stub.url("/"), MOST).await;

    assert!(matches!(longer, Err(FetchError::TooLarge { .. })), "{longer:?}");
}

#[tokio::test]
async fn what_is_on_this_machine_is_not_fetched_unless_that_is_allowed() {
    let stub = HttpsStub::start().await;
    stub.answer_with("{}");
    let roots = Roots::Pem(HttpsStub::AUTHORITY.to_vec());
    let guarded = Fetcher::new(&roots, Guard::default()).unwrap();
    let by_number = stub.url("/").replace("localhost", "127.0.0.1");
    let mapped = stub.url("/").replace("localhost", "[::ffff:127.0.0.1]");

    for url in [stub.url("/"), by_number, mapped] {
        let fetched = guarded.get(&url, MOST).await;
        assert!(matches!(fetched, Err(FetchError::NotPublic { .. })), "{url}: {fetched:?}");
    }
    assert_eq!(stub.asked(), 0);
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let stub = HttpsStub::start().await;
    let elsewhere = stub.url("/elsewhere");

    stub.answer(format!(
        "HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    ));
    let error = fetcher().get(&stub.url("/"), MOST).await.unwrap_err();

    assert_eq!(error.to_string(), format!("redirects are not followed: name {elsewhere:?} itself"));
    assert_eq!(stub.asked(), 1);
}

#[tokio::test]
async fn what_is_no_document_is_an_error_that_says_why() {
    let stub = HttpsStub::start().await;
    let error = async || fetcher().get(&stub.url("/"), MOST).await.unwrap_err().to_string();

    assert_eq!(error().await, "the answer is 503 Service Unavailable");
    stub.answer("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx");
    assert_eq!(error().await, "the answer is compressed, which was not asked for");
    stub.answer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ntoo few");
    assert_eq!(error().await, "connection broke during the exchange");
    stub.answer("SSH-2.0-OpenSSH\r\n\r\n");
    assert_eq!(error().await, "connection broke during the exchange");
}

#[tokio::test]
async fn a_server_that_lets_its_client_wait_is_given_up_on() {
    let stub = HttpsStub::start().await;
    stub.answer("");
    let soon = Duration::from_secs(2);

    let fetched =
        fetcher().with_timeouts(Duration::from_secs(20), soon).get(&stub.url("/"), MOST).await;

    assert!(matches!(fetched, Err(FetchError::Timeout)), "{fetched:?}");
    assert_eq!(stub.asked(), 1);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_or_of_another_name_is_told_nothing() {
    let stub = HttpsStub::start().await;
    stub.answer_with("{}");
    let other = include_bytes!("../tls/other-certificate.pem").to_vec();
    let stranger = Fetcher::new(&Roots::Pem(other), here()).unwrap();
    let by_number = stub.url("/").replace("localhost", "[::ffff:127.0.0.1]");

    for fetched in [stranger.get(&stub.url("/"), MOST).await, fetcher().get(&by_number, MOST).await]
    {
        let is_refused =
            matches!(fetched, Err(FetchError::Tls(_) | FetchError::Unreachable { .. }));
        assert!(is_refused, "{fetched:?}");
    }
    assert_eq!(stub.asked(), 0);
}

#[tokio::test]
async fn a_server_of_another_protocol_only_is_not_spoken_to() {
    let stub = HttpsStub::speaking(&[b"h2"]).await;

    let fetched = fetcher().get(&stub.url("/"), MOST).await;

    assert!(matches!(fetched, Err(FetchError::Tls(_))), "{fetched:?}");
}

#[tokio::test]
async fn only_https_without_a_password_is_a_url() {
    for url in
        ["http://example.com/", "https://user:pw@example.com/", "https://", "example.com", ""]
    {
        let fetched = fetcher().get(url, MOST).await;
        assert!(matches!(fetched, Err(FetchError::Url(_))), "{url}: {fetched:?}");
    }
}
