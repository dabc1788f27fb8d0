use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tidewire_transport::http::{RequestError, request};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_request_arrives_whole_and_so_does_its_answer() {
    let (listener, url) = listen().await;
    let headers = [("x-key", "secret")];

    let (answer, ()) = tokio::join!(
        request(Method::POST, &url, &headers, "body"),
        serve(&listener, |heard| Response::builder()
            .status(201)
            .header("x-heard", "yes")
            .body(heard)),
    );

    let answer = answer.unwrap();
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers["x-heard"], "yes");
    assert_eq!(answer.body, "POST /a/b?c=d secret body");
}

#[tokio::test]
async fn a_body_of_sixteen_mebibytes_is_read_and_one_byte_more_refused() {
    for (length, is_read) in [(16 << 20, true), ((16 << 20) + 1, false)] {
        let (listener, url) = listen().await;

        let answering = serve(&listener, |_| Response::builder().body(vec![7; length].into()));
        let (answer, ()) = tokio::join!(request(Method::GET, &url, &[], ""), answering);

        match answer {
            Ok(answer) => assert!(is_read && answer.body.len() == length),
            Err(error) => assert!(!is_read && matches!(error, RequestError::BodyTooLarge)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_on() {
    let (_listener, url) = listen().await;

    let answer = request(Method::GET, &url, &[], "").await;

    assert!(matches!(answer, Err(RequestError::Timeout)));
}

#[tokio::test]
async fn a_port_nobody_listens_on_is_unreachable() {
    let (listener, url) = listen().await;
    drop(listener);

    let answer = request(Method::GET, &url, &[], "").await;

    assert!(matches!(answer, Err(RequestError::Unreachable { .. })));
}

#[tokio::test]
async fn tls_is_refused_by_name() {
    let error = request(Method::GET, "https://localhost/", &[], "").await.unwrap_err();

    assert_eq!(error.to_string(), "url has to begin with http://, tls is not supported");
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a/b?c=d", listener.local_addr().unwrap());
    (listener, url)
}

/// Answers one request; `answer` is given what was heard.
async fn serve(
    listener: &TcpListener,
    answer: impl Fn(Bytes) -> hyper::http::Result<Response<Bytes>>,
) {
    let (stream, _) = listener.accept().await.unwrap();
    let answer = &answer;
    let service = service_fn(|request: Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let key = parts.headers.get("x-key").map_or("", |key| key.to_str().unwrap());
        let body = str::from_utf8(&body).unwrap();
        let heard = format!("{} {} {key} {body}", parts.method, parts.uri);
        Ok::<_, Infallible>(answer(heard.into()).unwrap().map(Full::new))
    });
    // A client that has heard enough hangs up in the middle.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.unwrap_or(());
}
