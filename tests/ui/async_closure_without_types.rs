use pipetalk::Call;
use pipetalk::tokio::Server;

async fn serve() {
    let server = Server::bind("acme.length").unwrap();
    server.serve(|text: String, call: &Call| async move { text.len() }).await.unwrap();
}

fn main() {}
