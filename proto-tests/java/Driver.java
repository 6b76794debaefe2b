import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * The tests' hands on Kafka's own Java clients: one long-living JVM that takes commands as JSON lines on standard input
 * and answers each with one JSON line on standard output. Commands run side by side; `id` ties the answer to the
 * question.
 *
 *   {"id":7,"cmd":"create_topic","bootstrap":"127.0.0.1:20001",…}
 *   {"id":7,"ok":true,…}   or   {"id":7,"ok":false,"error":"…"}
 *
 * It ends with its standard input, so that it never outlives the tests.
 */
public final class Driver {
    static final ObjectMapper JSON = new ObjectMapper();

    interface Command {
        void run(JsonNode args, ObjectNode answer) throws Exception;
    }

    private static final Map<String, Command> COMMANDS = new HashMap<>();

    static {
        COMMANDS.put("ping", (args, answer) -> answer.put("pong", true));
        Topics.register(COMMANDS);
        Producing.register(COMMANDS);
        Consuming.register(COMMANDS);
        Groups.register(COMMANDS);
        Measuring.register(COMMANDS);
        Assigning.register(COMMANDS);
    }

    public static void main(String[] argv) throws Exception {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        // Whatever a library prints must not end up between the answers.
        System.setOut(System.err);
        ExecutorService pool = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String request = line;
            pool.submit(() -> reply(out, answer(request)));
        }
        Runtime.getRuntime().halt(0);
    }

    private static ObjectNode answer(String line) {
        ObjectNode answer = JSON.createObjectNode();
        try {
            JsonNode args = JSON.readTree(line);
            answer.set("id", args.get("id"));
            Command command = COMMANDS.get(args.path("cmd").asText());
            if (command == null) {
                throw new IllegalArgumentException("no such command: " + args.path("cmd").asText());
            }
            command.run(args, answer);
            answer.put("ok", true);
        } catch (Throwable failure) {
            StringWriter trace = new StringWriter();
            failure.printStackTrace(new PrintWriter(trace));
            answer.put("ok", false).put("error", trace.toString());
        }
        return answer;
    }

    private static void reply(PrintStream out, ObjectNode answer) {
        synchronized (out) {
            out.println(answer);
            out.flush();
        }
    }
}
