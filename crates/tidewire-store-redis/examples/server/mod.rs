//! What a Redis says of itself, for the examples that measure what they cost it.

use redis::aio::MultiplexedConnection;

/// Seconds of processor time the server has used.
pub(crate) async fn used_cpu(connection: &mut MultiplexedConnection) -> f64 {
    let mut sum = 0.0;
    for field in ["used_cpu_sys", "used_cpu_user"] {
        sum += info(connection, "cpu", field).await.parse::<f64>().expect("seconds");
    }
    sum
}

pub(crate) async fn info(
    connection: &mut MultiplexedConnection,
    section: &str,
    field: &str,
) -> String {
    let mut command = redis::cmd("INFO");
    let text: String = command.arg(section).query_async(connection).await.expect("it answers");
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let value = fields.filter(|(name, _)| *name == field).map(|(_, value)| value).next();
    value.expect("every redis says so").into()
}

#[expect(clippy::cast_precision_loss, reason = "counts of this program")]
pub(crate) fn to_f64(count: usize) -> f64 {
    count as f64
}
