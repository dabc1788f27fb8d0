pub struct MemoryBroker;
pub struct MemoryNetwork;
