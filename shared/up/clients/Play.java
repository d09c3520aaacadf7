import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONObject;

/**
 * The clients of the JVM: `java -cp <jars> Play.java <address> <group> <users as JSON>`; texts come as lines
 * `{ via, text }` and events leave as such. Those of com.github.nkzawa differ in their package only.
 */
public class Play {
  static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
  static final Map<String, Socket> sockets = new HashMap<>();
  static int group;

  static synchronized void say(String via, String at, Object text) {
    try {
      out.println(new JSONObject().put("via", via).put("at", at).put("text", String.valueOf(text)));
    } catch (Exception error) {
      throw new RuntimeException(error);
    }
  }

  static void start(String address, String via, int user, String... transports) throws Exception {
    IO.Options options = new IO.Options();
    options.transports = transports;
    options.forceNew = true;
    options.reconnectionDelay = 100;
    options.reconnectionDelayMax = 500;
    Socket socket = IO.socket(address, options);
    sockets.put(via, socket);
    JSONObject claims = new JSONObject().put("id", user).put("name", "n").put("appType", "1")
        .put("token1", "x").put("token2", "y");
    JSONObject groups = new JSONObject().put("userId", user)
        .put("subscribeGroups", new JSONArray().put(new JSONObject().put("id", group)));
    Ack in = (Object... args) -> say(via, "in", ((JSONObject) args[0]).opt("msg"));
    Ack authenticated = (Object... args) -> {
      JSONObject result = (JSONObject) args[0];
      if (result.optBoolean("success")) socket.emit("subscribe", new Object[] {groups}, in);
      else say(via, "refused", result.opt("msg"));
    };
    socket.on(Socket.EVENT_CONNECT, args -> socket.emit("auth", new Object[] {claims}, authenticated));
    socket.on("msg", args -> say(via, "msg", ((JSONObject) args[0]).opt("content")));
    socket.on("error", args -> say(via, "error", args.length == 0 ? "" : args[0]));
    socket.on(Socket.EVENT_DISCONNECT, args -> say(via, "out", args.length == 0 ? "" : args[0]));
    socket.connect();
  }

  static void send(String via, String text) throws Exception {
    JSONObject message = new JSONObject().put("type", 1).put("content", text)
        .put("target", new JSONObject().put("id", group));
    Ack sent = (Object... args) -> say(via, "sent", ((JSONObject) args[0]).opt("msg"));
    sockets.get(via).emit("msg", new Object[] {message}, sent);
  }

  public static void main(String[] args) throws Exception {
    group = Integer.parseInt(args[1]);
    JSONObject users = new JSONObject(args[2]);
    start(args[0], "websocket", users.getInt("websocket"), "websocket");
    start(args[0], "polling", users.getInt("polling"), "polling");
    start(args[0], "upgrade", users.getInt("upgrade"), "polling", "websocket");
    BufferedReader lines =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      JSONObject command = new JSONObject(line);
      send(command.getString("via"), command.getString("text"));
    }
    System.exit(0);
  }
}
