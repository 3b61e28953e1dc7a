//! The streams of the demo, made by the statements that anyone can type.

/// Each creates a stream that can be read back two minutes, so that memory is flat soon after the start.
/// What they show is told where it is shown: flights are labelled a replay, plays synthetic.
pub(super) const STATEMENTS: [&str; 8] = [
    "CREATE SOURCE host_cpu WITH (connector = 'host', retention = '2m', table = 'cpu')",
    "CREATE SOURCE host_memory WITH (connector = 'host', retention = '2m', table = 'memory')",
    "CREATE SOURCE host_network WITH (connector = 'host', retention = '2m', table = 'network')",
    "CREATE SOURCE host_disk WITH (connector = 'host', retention = '2m', table = 'disk')",
    "CREATE SOURCE host_process WITH (connector = 'host', retention = '2m', table = 'process')",
    "CREATE SOURCE flights WITH (connector = 'flights', retention = '2m')",
    "CREATE SOURCE plays WITH (connector = 'generator', retention = '2m')",
    "CREATE SOURCE clicks (at TIMESTAMP, visitor TEXT, page TEXT, milliseconds BIGINT, \
     WATERMARK FOR at AS at - INTERVAL '2 seconds') WITH (connector = 'http', retention = '2m')",
];
