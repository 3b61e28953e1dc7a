//! The streams of the demo, made by the statements that anyone can type.

/// Each creates a stream. What they show is told where it is shown: flights are labelled a replay, plays synthetic.
pub(super) const STATEMENTS: [&str; 8] = [
    "CREATE SOURCE host_cpu WITH (connector = 'host', table = 'cpu')",
    "CREATE SOURCE host_memory WITH (connector = 'host', table = 'memory')",
    "CREATE SOURCE host_network WITH (connector = 'host', table = 'network')",
    "CREATE SOURCE host_disk WITH (connector = 'host', table = 'disk')",
    "CREATE SOURCE host_process WITH (connector = 'host', table = 'process')",
    "CREATE SOURCE flights WITH (connector = 'flights')",
    "CREATE SOURCE plays WITH (connector = 'generator')",
    "CREATE SOURCE clicks (at TIMESTAMP, visitor TEXT, page TEXT, milliseconds BIGINT, \
     WATERMARK FOR at AS at - INTERVAL '2 seconds') WITH (connector = 'http')",
];
