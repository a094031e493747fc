pub struct Change;

pipetalk::service! {
    pub trait Kv {
        stream watch(prefix: String) -> Change;
    }
    pub struct KvClient;
}

fn main() {}
