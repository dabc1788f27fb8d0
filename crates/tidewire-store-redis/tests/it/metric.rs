//! What is measured.

use metrics_exporter_prometheus::PrometheusBuilder;
use tidewire_broker::{Log, Retention};
use tidewire_store_redis::{RedisConnection, RedisLog};
use tidewire_testkit::services::RedisServer;

use crate::redis::{append, config, draft, room};

#[tokio::test]
async fn calls_errors_and_reach_are_measured() {
    let mut server = RedisServer::start().await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let connection =
        metrics::with_local_recorder(&recorder, || RedisConnection::new(config(&server.url())));
    let log = RedisLog::new(connection.expect("a valid configuration"), Retention::default());

    append(&log, &["1"]).await;
    let up = recorder.handle().render();
    server.kill();
    log.append(&room(), &[draft("2")]).await.expect_err("it is down");
    let down = recorder.handle().render();

    let has = |text: &str, line: &str| text.lines().any(|found| found == line);
    assert!(has(&up, "tidewire_store_up 1"), "{up}");
    assert!(
        has(&up, r#"tidewire_store_command_duration_seconds_count{command="append"} 1"#),
        "{up}"
    );
    assert!(
        has(&up, r#"tidewire_store_errors_total{command="append",reason="unanswered"} 0"#),
        "{up}"
    );
    assert!(has(&down, "tidewire_store_up 0"), "{down}");
    assert!(
        !has(&down, r#"tidewire_store_errors_total{command="append",reason="unanswered"} 0"#),
        "{down}"
    );
}
