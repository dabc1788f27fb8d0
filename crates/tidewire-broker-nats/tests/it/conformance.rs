use tidewire_broker::broker_conformance;

use crate::cluster::Cluster;

broker_conformance!(Cluster::start());
