// Loaded before a peer: whatever it serves is on this machine only, and it says on which port.
import net from "node:net";

const listen = net.Server.prototype._listen2;
net.Server.prototype._listen2 = function (_address, port, _family, ...rest) {
  this.once("listening", () => console.error(`serving at 127.0.0.1:${this.address().port}`));
  return listen.call(this, "127.0.0.1", port, 4, ...rest);
};
