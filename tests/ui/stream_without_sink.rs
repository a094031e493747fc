pipetalk::service! {
    pub trait Kv {
        stream watch(prefix: String) -> u32;
    }
    pub struct KvClient;
}

struct Store;

impl Kv for Store {
    fn watch(&self, _: &pipetalk::Call, _prefix: String) -> u32 {
        0
    }
}

fn main() {}
