mod keyspace;
mod replay;
