// Generate a video with HiAPI: submit, poll and download. One file to copy; it needs Java 17: java Hiapi.java
import java.io.IOException;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpConnectTimeoutException;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

public class Hiapi {
    static final double LONGEST_WAIT = 600, KEY_LIFE = 86000, GRACE = 60; // seconds; HiAPI forgets a key after 24 hours
    static final double LEAST_INTERVAL = 1, INTERVAL = 3, LONGEST_INTERVAL = 10; // between polls; it grows by a quarter after each
    static final int TRIES = 5; // per submission, and per download
    // Bad responses in a row that the wait survives.
    static final Map<String, Integer> TOLERATED = Map.of("refused", 1, "missing", 3, "useless", 4, "troubled", 8);
    // The speed of the fake server's clock; 1 for a real provider.
    static final double SPEED = Double.parseDouble(System.getenv().getOrDefault("HOBBYHORSE_SPEED", "1"));
    static final String[] PRIVATE = {"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"};
    static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)
        .connectTimeout(Duration.ofSeconds(10)).followRedirects(HttpClient.Redirect.NEVER)
        .proxy(HttpClient.Builder.NO_PROXY).build(); // never redirect: the key would go along

    /** No video was returned. The outcome is failed (final), timeout (the job goes on) or error (the outcome is unknown). */
    static class Failed extends RuntimeException {
        final String outcome, job;

        Failed(String outcome, String job, String why) {
            super("job " + (job == null ? "unknown" : job) + ": " + why);
            this.outcome = outcome;
            this.job = job;
        }
    }

    /** Status 0: no response, or not all of it; -1: the request was not sent. */
    record Response(int status, byte[] body, Double again) {
        static final Response NONE = new Response(0, new byte[0], null);

        String text() {
            return new String(body, StandardCharsets.UTF_8);
        }

        @Override
        public String toString() {
            return status > 0 ? "status " + status + ": " + text().substring(0, Math.min(300, text().length())) : "no response";
        }
    }

    /** Read the monotonic clock: the wall clock may be set. */
    static double now() {
        return System.nanoTime() / 1e9 * SPEED;
    }

    /** Send a request, whose whole response must arrive within some seconds. */
    static Response send(String method, String url, Map<String, String> headers, String body, int within) throws InterruptedException {
        CompletableFuture<HttpResponse<byte[]>> coming = null;
        try {
            HttpRequest.BodyPublisher content = body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body);
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url)).method(method, content);
            headers.forEach(request::header);
            coming = HTTP.sendAsync(request.build(), HttpResponse.BodyHandlers.ofByteArray());
            HttpResponse<byte[]> response = coming.get(within, TimeUnit.SECONDS);
            return new Response(response.statusCode(), response.body(), seconds(response.headers().firstValue("retry-after").orElse(null)));
        } catch (TimeoutException error) {
            coming.cancel(true);
            return Response.NONE;
        } catch (ExecutionException error) {
            Throwable cause = error.getCause();
            boolean unsent = cause instanceof ConnectException || cause instanceof HttpConnectTimeoutException;
            return unsent ? new Response(-1, new byte[0], null) : Response.NONE;
        } catch (IllegalArgumentException error) {
            return new Response(-1, new byte[0], null);
        }
    }

    /** Return the seconds until the moment of a Retry-After, which is a number or a date; null if there is none. */
    static Double seconds(String value) {
        if (value == null) return null;
        if (value.matches("\\d+")) return Double.valueOf(value);
        // Two older forms of an HTTP-date; the last one is in GMT without saying so.
        List<DateTimeFormatter> forms = List.of(DateTimeFormatter.RFC_1123_DATE_TIME,
            DateTimeFormatter.ofPattern("EEEE, dd-MMM-yy HH:mm:ss zzz", Locale.US),
            DateTimeFormatter.ofPattern("EEE MMM ppd HH:mm:ss yyyy zzz", Locale.US));
        for (DateTimeFormatter form : forms) {
            try {
                ZonedDateTime moment = ZonedDateTime.parse(value.endsWith("GMT") ? value : value + " GMT", form);
                return Duration.between(Instant.now(), moment.toInstant()).toMillis() / 1000.0;
            } catch (RuntimeException error) {
                continue;
            }
        }
        return null;
    }

    /** A reader of JSON: objects as maps, lists, strings, doubles, booleans and null. */
    static class Json {
        final String text;
        int at = 0;

        Json(String text) {
            this.text = text.startsWith("\ufeff") ? text.substring(1) : text;
        }

        static Object read(String text) {
            Json json = new Json(text);
            Object value = json.value();
            json.blank();
            if (json.at != json.text.length()) throw new IllegalArgumentException("more than one value");
            return value;
        }

        char next() {
            if (at >= text.length()) throw new IllegalArgumentException("the text ends early");
            return text.charAt(at);
        }

        void blank() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
        }

        void expect(String word) {
            if (!text.startsWith(word, at)) throw new IllegalArgumentException("not JSON at " + at);
            at += word.length();
        }

        Object value() {
            blank();
            switch (next()) {
                case '{': return object();
                case '[': return list();
                case '"': return string();
                case 't': expect("true"); return true;
                case 'f': expect("false"); return false;
                case 'n': expect("null"); return null;
                default: return number();
            }
        }

        Object number() {
            int start = at;
            while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) at++;
            return Double.valueOf(text.substring(start, at));
        }

        Map<String, Object> object() {
            Map<String, Object> found = new LinkedHashMap<>();
            expect("{");
            for (blank(); next() != '}'; blank()) {
                if (!found.isEmpty()) expect(",");
                blank();
                String name = string();
                blank();
                expect(":");
                found.put(name, value());
            }
            at++;
            return found;
        }

        List<Object> list() {
            List<Object> found = new ArrayList<>();
            expect("[");
            for (blank(); next() != ']'; blank()) {
                if (!found.isEmpty()) expect(",");
                found.add(value());
            }
            at++;
            return found;
        }

        String string() {
            StringBuilder found = new StringBuilder();
            expect("\"");
            for (; next() != '"'; at++) {
                if (next() != '\\') {
                    found.append(next());
                    continue;
                }
                at++;
                int plain = "bfnrt".indexOf(next());
                if (next() == 'u') {
                    found.append((char) Integer.parseInt(text.substring(at + 1, at + 5), 16));
                    at += 4;
                } else {
                    found.append(plain < 0 ? next() : "\b\f\n\r\t".charAt(plain));
                }
            }
            at++;
            return found.toString();
        }

        static String write(Object value) {
            if (!(value instanceof String text)) return String.valueOf(value);
            StringBuilder found = new StringBuilder("\"");
            for (char one : text.toCharArray()) {
                if (one == '"' || one == '\\') found.append('\\').append(one);
                else if (one < ' ') found.append(String.format("\\u%04x", (int) one));
                else found.append(one);
            }
            return found.append('"').toString();
        }

        static String object(Map<String, Object> fields) {
            List<String> found = new ArrayList<>();
            fields.forEach((name, value) -> found.add(write(name) + ": " + write(value)));
            return "{" + String.join(", ", found) + "}";
        }
    }

    /** Return the object under `data` in a 2xx response; an empty one if there is none. */
    @SuppressWarnings("unchecked")
    static Map<String, Object> data(Response response) {
        try {
            Object value = response.status >= 200 && response.status < 300 ? Json.read(response.text()) : null;
            Object found = value instanceof Map<?, ?> fields ? fields.get("data") : null;
            return found instanceof Map<?, ?> ? (Map<String, Object>) found : Map.of();
        } catch (RuntimeException error) {
            return Map.of();
        }
    }

    static String text(Object value) {
        return value instanceof String found ? found : "";
    }

    /** Sleep for the Retry-After, else for the interval; return false if the deadline comes first. */
    static boolean pause(Response response, double interval, double deadline) throws InterruptedException {
        double left = deadline - now();
        if (left < LEAST_INTERVAL || (response.again != null && response.again > left)) return false;
        double wait = response.again == null ? interval * (1 + Math.random() / 4) : Math.max(response.again * 1.02, LEAST_INTERVAL);
        if (wait >= left - LEAST_INTERVAL) wait = left; // the last poll falls on the deadline
        Thread.sleep((long) Math.ceil(wait / SPEED * 1000));
        return true;
    }

    static boolean among(int status, int... these) {
        return Arrays.stream(these).anyMatch(one -> one == status);
    }

    /** Submit, and return the job's id. After a lost response, submit again with the same key, which HiAPI replays. */
    static String submit(Map<String, Object> note, String apiKey, double deadline) throws InterruptedException {
        Response response = Response.NONE;
        boolean doubt = (Boolean) note.get("doubt");
        Map<String, String> headers = Map.of("Authorization", "Bearer " + apiKey, "Content-Type", "application/json",
            "Idempotency-Key", text(note.get("key")));
        for (int number = 0; number < TRIES; number++) {
            if (number > 0 && !pause(response, Math.pow(2, number), deadline)) break;
            response = send("POST", note.get("base_url") + "/v1/tasks", headers, text(note.get("request")), 30);
            String job = text(data(response).get("taskId"));
            if (!job.isEmpty()) return job;
            int status = response.status;
            boolean refused = status >= 300 && status < 500;
            boolean underWay = status == 409 && response.text().contains("IDEMPOTENCY_KEY_PROCESSING");
            doubt = doubt || !(among(status, -1, 429, 503) || (refused && !among(status, 408, 409)));
            if ((refused && !underWay && !among(status, 408, 425, 429)) || response.text().contains("TASK_FAILED")) break;
        }
        throw new Failed(doubt ? "error" : "failed", null, "the submission with the key " + note.get("key") + " was not accepted: " + response);
    }

    /** Poll until the job has succeeded; return the video's URL, empty if there is none. */
    static String await(Map<String, Object> note, String apiKey, double deadline) throws InterruptedException {
        Response response = Response.NONE;
        String job = text(note.get("job"));
        double interval = INTERVAL;
        boolean seen = false;
        Map<String, Integer> failures = new HashMap<>();
        while (pause(response, interval, deadline)) {
            String url = note.get("base_url") + "/v1/tasks/" + java.net.URLEncoder.encode(job, StandardCharsets.UTF_8);
            response = send("GET", url, Map.of("Authorization", "Bearer " + apiKey), null, 30);
            Map<String, Object> found = data(response);
            String stage = text(found.get("status"));
            if (stage.equals("success")) return videoUrl(found.get("output"));
            if (stage.equals("fail")) throw new Failed("failed", job, response.toString());
            if (!stage.isEmpty()) { // in progress, or an undocumented stage
                seen = true;
                failures.clear();
            } else {
                String kind = classify(response.status, seen);
                if (failures.merge(kind, 1, Integer::sum) > TOLERATED.get(kind)) {
                    throw new Failed("error", job, "its status cannot be read: " + response);
                }
            }
            interval = Math.min(interval * 1.25, LONGEST_INTERVAL);
        }
        throw new Failed("timeout", job, "it is not done after " + LONGEST_WAIT + " s; last response: " + response);
    }

    /** Return the URL of the first output that is a video; without types, that of the first one. */
    static String videoUrl(Object output) {
        List<Map<?, ?>> found = new ArrayList<>();
        if (output instanceof List<?> list) {
            for (Object one : list) if (one instanceof Map<?, ?> fields) found.add(fields);
        }
        for (Map<?, ?> one : found) if ("video".equals(one.get("type"))) return text(one.get("url"));
        return found.isEmpty() ? "" : text(found.get(0).get("url"));
    }

    /** Classify a response without a stage; `seen`: an earlier response had one. */
    static String classify(int status, boolean seen) {
        if (status <= 0 || status >= 500 || among(status, 408, 425, 429)) return "troubled";
        if (status < 300) return "useless";
        return status == 404 && !seen ? "missing" : "refused";
    }

    /** Download the video without the key; return null if the link has expired. */
    static byte[] download(Map<String, Object> note, String url) throws InterruptedException {
        String job = text(note.get("job"));
        if (!isPublic(url, text(note.get("base_url")))) throw new Failed("error", job, "the URL of its video is not public");
        Response response = Response.NONE;
        double deadline = now() + LONGEST_WAIT;
        for (int number = 0; number < TRIES; number++) {
            if (number > 0 && !pause(response, Math.pow(2, number), deadline)) break;
            response = send("GET", url, Map.of(), null, 300);
            if (response.status == 200 && isMp4(response.body)) return response.body;
            if (among(response.status, 403, 410)) return null;
        }
        throw new Failed("error", job, "its video cannot be downloaded: status " + response.status + ", " + response.body.length + " bytes");
    }

    /** Return whether a URL is safe to fetch: http(s), on a public address or on the API's own host. */
    static boolean isPublic(String url, String base) {
        try {
            URI target = URI.create(url);
            if (!List.of("http", "https").contains(target.getScheme()) || target.getHost() == null) return false;
            if (target.getHost().equals(URI.create(base).getHost())) return true;
            for (InetAddress one : InetAddress.getAllByName(target.getHost())) {
                byte[] address = one.getAddress();
                if (address.length == 16 && (address[0] & 0xe0) != 0x20) return false; // only 2000::/3 is public
                if (address.length == 4 && isPrivate(address)) return false;
            }
            return true;
        } catch (IllegalArgumentException | IOException error) {
            return false;
        }
    }

    static boolean isPrivate(byte[] address) throws IOException {
        for (String range : PRIVATE) {
            int free = 32 - Integer.parseInt(range.split("/")[1]);
            int start = ByteBuffer.wrap(InetAddress.getByName(range.split("/")[0]).getAddress()).getInt();
            if (ByteBuffer.wrap(address).getInt() >>> free == start >>> free) return true;
        }
        return false;
    }

    /** Return whether bytes are a complete MP4 file: its boxes fill it exactly. */
    static boolean isMp4(byte[] bytes) {
        List<String> kinds = new ArrayList<>();
        ByteBuffer all = ByteBuffer.wrap(bytes);
        long at = 0;
        while (at + 8 <= bytes.length) {
            long size = all.getInt((int) at) & 0xffffffffL;
            if (size == 1) size = at + 16 <= bytes.length ? all.getLong((int) at + 8) : 0;
            else if (size == 0) size = bytes.length - at;
            kinds.add(new String(bytes, (int) at + 4, 4, StandardCharsets.ISO_8859_1));
            at += Math.max(size, 8);
        }
        return at == bytes.length && kinds.get(0).equals("ftyp") && kinds.contains("moov") && kinds.contains("mdat");
    }

    /** Write a file atomically. */
    static void save(Path path, byte[] content) throws IOException {
        Path part = Path.of(path + ".part");
        Files.write(part, content);
        Files.move(part, path, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
    }

    /** Submit if the note has no job, saving the note before and after; wait for the job; return its video. */
    static byte[] collect(String apiKey, Map<String, Object> note, Path noteFile) throws IOException, InterruptedException {
        double deadline = now() + LONGEST_WAIT;
        if (note.get("job") == null) {
            if (System.currentTimeMillis() / 1000.0 - (Double) note.get("ordered") > KEY_LIFE) {
                throw new Failed("error", null, "the key " + note.get("key") + " is too old: HiAPI would not replay it, but make a second job");
            }
            Map<String, Object> doubtful = new LinkedHashMap<>(note);
            doubtful.put("doubt", true);
            save(noteFile, Json.object(doubtful).getBytes(StandardCharsets.UTF_8));
            note.put("job", submit(note, apiKey, deadline));
            save(noteFile, Json.object(note).getBytes(StandardCharsets.UTF_8));
        }
        Set<Boolean> repeated = new HashSet<>();
        while (true) { // a missing URL gets one more poll, and so does an expired one
            String url = await(note, apiKey, deadline);
            byte[] video = url.isEmpty() ? null : download(note, url);
            if (video != null) return video;
            if (!repeated.add(url.isEmpty())) {
                throw new Failed(url.isEmpty() ? "failed" : "error", text(note.get("job")), "it has succeeded, but its video is missing");
            }
            deadline = Math.max(deadline, now() + GRACE);
        }
    }

    static void report(String job, String outcome, String digest) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("job", job);
        line.put("class", outcome);
        line.put("id_exposed", job != null);
        line.put("sha256", digest);
        System.out.println(Json.object(line));
    }

    @SuppressWarnings("unchecked")
    public static void main(String[] words) throws Exception {
        Map<String, String> env = System.getenv();
        Path output = Path.of(env.get("HOBBYHORSE_OUTPUT")), noteFile = Path.of(output + ".job");
        boolean resume = List.of(words).contains("--resume");
        int status = 0;
        try {
            String request = Files.readString(Path.of(env.get("HOBBYHORSE_REQUEST")));
            if (resume && !Files.exists(noteFile)) throw new Failed("failed", null, "nothing to resume: " + noteFile + " does not exist");
            Map<String, Object> note = new LinkedHashMap<>();
            note.put("base_url", env.get("HOBBYHORSE_BASE_URL").replaceAll("/+$", ""));
            note.put("request", request);
            note.put("key", UUID.randomUUID().toString());
            note.put("job", null);
            note.put("doubt", false);
            note.put("ordered", System.currentTimeMillis() / 1000.0);
            if (Files.exists(noteFile)) note = (Map<String, Object>) Json.read(Files.readString(noteFile));
            if (!resume && !note.get("request").equals(request)) {
                throw new Failed("error", (String) note.get("job"), noteFile + " belongs to another request: --resume collects its job");
            }
            byte[] video = collect(env.get("HOBBYHORSE_API_KEY"), note, noteFile);
            save(output, video);
            Files.delete(noteFile);
            report(text(note.get("job")), "success", HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(video)));
        } catch (Failed error) {
            if (error.outcome.equals("failed")) Files.deleteIfExists(noteFile);
            System.err.println(error.getMessage());
            report(error.job, error.outcome, null);
            status = 1;
        }
        System.out.flush();
        System.exit(status);
    }
}
