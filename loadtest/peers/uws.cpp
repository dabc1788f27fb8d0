// uWebSockets, answering what `loadtest swarm --dialect bare` says (floor/floor.c has the words).
// Its own topics and its own corking; prints "port <n>" when it listens.
#include "App.h"

#include <cstdio>
#include <string_view>

struct Nothing {};

int main() {
    uWS::App app;
    app.ws<Nothing>("/*", {
        .compression = uWS::DISABLED,
        .idleTimeout = 120,
        .maxBackpressure = 1 << 24,
        .message = [&app](auto *ws, std::string_view text, uWS::OpCode) {
            if (text[0] == 'S') {
                ws->subscribe(text.substr(1));
                ws->send("joined", uWS::OpCode::TEXT);
                return;
            }
            auto end = text.find('\n');
            if (text[0] == 'A') ws->send("published                                                    ", uWS::OpCode::TEXT);
            app.publish(text.substr(1, end - 1), text.substr(end + 1), uWS::OpCode::TEXT);
        },
    });
    app.listen("127.0.0.1", 0, [](auto *socket) {
        std::printf("port %d\n", us_socket_local_port(0, (us_socket_t *)socket));
        std::fflush(stdout);
    });
    app.run();
}
