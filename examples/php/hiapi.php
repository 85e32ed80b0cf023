<?php
// Generate a video with HiAPI: submit, poll and download. One file to copy; it needs PHP 8.1 with curl.
declare(strict_types=1);

const LONGEST_WAIT = 600, KEY_LIFE = 86000, GRACE = 60; // seconds; HiAPI forgets a key after 24 hours
const LEAST_INTERVAL = 1, INTERVAL = 3, LONGEST_INTERVAL = 10; // seconds between polls; the interval grows by a quarter after each
const TRIES = 5; // per submission, and per download
const TOLERATED = ['refused' => 1, 'missing' => 3, 'useless' => 4, 'troubled' => 8]; // bad responses in a row that the wait survives
const UNSENT = [CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_CONNECT, CURLE_URL_MALFORMAT];
define('SPEED', (float) (getenv('HOBBYHORSE_SPEED') ?: 1)); // of the fake server's clock; 1 for a real provider
const PRIVATE_RANGES = ['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12',
    '192.0.0.0/24', '192.168.0.0/16', '198.18.0.0/15', '224.0.0.0/3'];

/** No video was returned. `outcome` is failed (final), timeout (the job goes on) or error (the outcome is unknown). */
class Failed extends Exception
{
    public function __construct(public string $outcome, public ?string $job, string $why)
    {
        parent::__construct('job ' . ($job ?? 'unknown') . ": $why");
    }
}

/** Status 0: no response, or not all of it; -1: the request was not sent. */
class Response
{
    public function __construct(public int $status = 0, public string $body = '', public ?float $again = null)
    {
    }

    public function __toString(): string
    {
        return $this->status > 0 ? "status {$this->status}: " . substr($this->body, 0, 300) : 'no response';
    }
}

/** Read the monotonic clock: the wall clock may be set. */
function now(): float
{
    return hrtime(true) / 1e9 * SPEED;
}

/** Send a request, whose whole response must arrive `within` seconds. Never redirect: the key would go along. */
function send(string $method, string $url, array $headers = [], ?string $body = null, int $within = 30): Response
{
    $again = null;
    $curl = curl_init();
    curl_setopt_array($curl, [
        CURLOPT_URL => $url, CURLOPT_CUSTOMREQUEST => $method, CURLOPT_HTTPHEADER => [...$headers, 'Expect:'],
        CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => $within, CURLOPT_CONNECTTIMEOUT => 10, CURLOPT_NOPROXY => '*',
        CURLOPT_PROTOCOLS => CURLPROTO_HTTP | CURLPROTO_HTTPS, CURLOPT_ENCODING => '',
        CURLOPT_HEADERFUNCTION => function ($curl, string $line) use (&$again): int {
            if (stripos($line, 'retry-after:') === 0) {
                $again = seconds(trim(substr($line, 12)));
            }
            return strlen($line);
        },
    ]);
    if ($body !== null) {
        curl_setopt($curl, CURLOPT_POSTFIELDS, $body);
    }
    $content = curl_exec($curl);
    if ($content === false) {
        return new Response(in_array(curl_errno($curl), UNSENT, true) ? -1 : 0);
    }
    return new Response(curl_getinfo($curl, CURLINFO_RESPONSE_CODE), $content, $again);
}

/** Return the seconds until the moment of a Retry-After, which is a number or a date; null if there is none. */
function seconds(string $value): ?float
{
    if (preg_match('/^\d+$/', $value)) {
        return (float) $value;
    }
    if (!preg_match('/^[A-Z]/i', $value)) { // strtotime would read almost anything as a time
        return null;
    }
    // An HTTP-date is in GMT, also in the old form that does not say so.
    $moment = strtotime(str_ends_with($value, 'GMT') ? $value : "$value GMT");
    return $moment === false ? null : $moment - microtime(true);
}

/** Return the object under `data` in a 2xx response; an empty one if there is none. */
function data(Response $response): array
{
    $value = $response->status >= 200 && $response->status < 300 ? json_decode($response->body, true) : null;
    return is_array($value) && is_array($value['data'] ?? null) ? $value['data'] : [];
}

/** Sleep for the Retry-After, else for the interval; return false if the deadline comes first. */
function pause(Response $response, float $interval, float $deadline): bool
{
    $left = $deadline - now();
    if ($left < LEAST_INTERVAL || ($response->again ?? 0) > $left) {
        return false;
    }
    $wait = $response->again === null ? $interval * (1 + lcg_value() / 4) : max($response->again * 1.02, LEAST_INTERVAL);
    usleep((int) (($wait < $left - LEAST_INTERVAL ? $wait : $left) / SPEED * 1e6)); // the last poll falls on the deadline
    return true;
}

/** Submit, and return the job's id. After a lost response, submit again with the same key, which HiAPI replays. */
function submit(array $note, array $headers, float $deadline): string
{
    $response = new Response();
    $doubt = $note['doubt'];
    $headers = [...$headers, 'Content-Type: application/json', "Idempotency-Key: {$note['key']}"];
    for ($number = 0; $number < TRIES; $number++) {
        if ($number && !pause($response, 2 ** $number, $deadline)) {
            break;
        }
        $response = send('POST', "{$note['base_url']}/v1/tasks", $headers, $note['request']);
        $job = data($response)['taskId'] ?? null;
        if (is_string($job) && $job !== '') {
            return $job;
        }
        $status = $response->status;
        $refused = $status >= 300 && $status < 500;
        $underWay = $status === 409 && str_contains($response->body, 'IDEMPOTENCY_KEY_PROCESSING');
        $doubt = $doubt || !(in_array($status, [-1, 429, 503]) || ($refused && !in_array($status, [408, 409])));
        if (($refused && !$underWay && !in_array($status, [408, 425, 429])) || str_contains($response->body, 'TASK_FAILED')) {
            break;
        }
    }
    throw new Failed($doubt ? 'error' : 'failed', null, "the submission with the key {$note['key']} was not accepted: $response");
}

/** Poll until the job has succeeded; return the video's URL, empty if there is none. */
function wait(array $note, array $headers, float $deadline): string
{
    $response = new Response();
    $interval = INTERVAL;
    $seen = false;
    $failures = [];
    while (pause($response, $interval, $deadline)) {
        $response = send('GET', "{$note['base_url']}/v1/tasks/" . rawurlencode($note['job']), $headers);
        $found = data($response);
        $stage = $found['status'] ?? null;
        if ($stage === 'success') {
            return video_url($found['output'] ?? null);
        }
        if ($stage === 'fail') {
            throw new Failed('failed', $note['job'], (string) $response);
        }
        if (is_string($stage) && $stage !== '') { // in progress, or an undocumented stage
            [$seen, $failures] = [true, []];
        } else {
            $kind = classify($response->status, $seen);
            $failures[$kind] = ($failures[$kind] ?? 0) + 1;
            if ($failures[$kind] > TOLERATED[$kind]) {
                throw new Failed('error', $note['job'], "its status cannot be read: $response");
            }
        }
        $interval = min($interval * 1.25, LONGEST_INTERVAL);
    }
    throw new Failed('timeout', $note['job'], 'it is not done after ' . LONGEST_WAIT . " s; last response: $response");
}

/** Return the URL of the first output that is a video; without types, that of the first one. */
function video_url(mixed $output): string
{
    $outputs = array_values(array_filter(is_array($output) ? $output : [], 'is_array'));
    $videos = array_values(array_filter($outputs, fn (array $one): bool => ($one['type'] ?? null) === 'video'));
    $url = ($videos[0] ?? $outputs[0] ?? [])['url'] ?? '';
    return is_string($url) ? $url : '';
}

/** Classify a response without a stage; `seen`: an earlier response had one. */
function classify(int $status, bool $seen): string
{
    if ($status <= 0 || $status >= 500 || in_array($status, [408, 425, 429])) {
        return 'troubled';
    }
    if ($status < 300) {
        return 'useless';
    }
    return $status === 404 && !$seen ? 'missing' : 'refused';
}

/** Download the video without the key; return null if the link has expired. */
function download(array $note, string $url): ?string
{
    if (!is_public($url, $note['base_url'])) {
        throw new Failed('error', $note['job'], 'the URL of its video is not public');
    }
    $response = new Response();
    $deadline = now() + LONGEST_WAIT;
    for ($number = 0; $number < TRIES; $number++) {
        if ($number && !pause($response, 2 ** $number, $deadline)) {
            break;
        }
        $response = send('GET', $url, [], null, 300);
        if ($response->status === 200 && is_mp4($response->body)) {
            return $response->body;
        }
        if (in_array($response->status, [403, 410])) {
            return null;
        }
    }
    $size = strlen($response->body);
    throw new Failed('error', $note['job'], "its video cannot be downloaded: status {$response->status}, $size bytes");
}

/** Return whether a URL is safe to fetch: http(s), on a public address or on the API's own host. */
function is_public(string $url, string $base): bool
{
    $parts = parse_url($url);
    $host = trim($parts['host'] ?? '', '[]');
    if (!in_array($parts['scheme'] ?? '', ['http', 'https'], true) || $host === '') {
        return false;
    }
    if ($host === trim(parse_url($base, PHP_URL_HOST) ?: '', '[]')) {
        return true;
    }
    if (filter_var($host, FILTER_VALIDATE_IP, FILTER_FLAG_IPV6)) {
        return (ord(inet_pton($host)[0]) & 0xe0) === 0x20; // only 2000::/3 is public
    }
    $found = gethostbynamel($host) ?: [];
    foreach ($found as $address) {
        foreach (PRIVATE_RANGES as $range) {
            [$start, $bits] = explode('/', $range);
            if ((ip2long($address) >> (32 - (int) $bits)) === (ip2long($start) >> (32 - (int) $bits))) {
                return false;
            }
        }
    }
    return $found !== [];
}

/** Return whether bytes are a complete MP4 file: its boxes fill it exactly. */
function is_mp4(string $bytes): bool
{
    $kinds = [];
    $at = 0;
    while ($at + 8 <= strlen($bytes)) {
        $size = unpack('N', $bytes, $at)[1];
        if ($size === 1) {
            $size = $at + 16 <= strlen($bytes) ? unpack('J', $bytes, $at + 8)[1] : 0;
        } elseif ($size === 0) {
            $size = strlen($bytes) - $at;
        }
        $kinds[] = substr($bytes, $at + 4, 4);
        $at += max($size, 8);
    }
    return $at === strlen($bytes) && $kinds[0] === 'ftyp' && in_array('moov', $kinds) && in_array('mdat', $kinds);
}

/** Write a file atomically. */
function save(string $path, string $content): void
{
    file_put_contents("$path.part", $content);
    rename("$path.part", $path);
}

/** Submit if the note has no job, saving the note before and after; wait for the job; return its id and its video. */
function collect(string $apiKey, array $note, string $noteFile): array
{
    $headers = ["Authorization: Bearer $apiKey"];
    $deadline = now() + LONGEST_WAIT;
    if ($note['job'] === null) {
        if (time() - $note['ordered'] > KEY_LIFE) {
            throw new Failed('error', null, "the key {$note['key']} is too old: HiAPI would not replay it, but make a second job");
        }
        save($noteFile, json_encode(['doubt' => true] + $note));
        $note['job'] = submit($note, $headers, $deadline);
        save($noteFile, json_encode($note));
    }
    $repeated = [];
    while (true) { // a missing URL gets one more poll, and so does an expired one
        $url = wait($note, $headers, $deadline);
        $video = $url === '' ? null : download($note, $url);
        if ($video !== null) {
            return [$note['job'], $video];
        }
        if (isset($repeated[$url === '' ? 0 : 1])) {
            throw new Failed($url === '' ? 'failed' : 'error', $note['job'], 'it has succeeded, but its video is missing');
        }
        $repeated[$url === '' ? 0 : 1] = true;
        $deadline = max($deadline, now() + GRACE);
    }
}

$output = getenv('HOBBYHORSE_OUTPUT');
$noteFile = "$output.job";
$resume = in_array('--resume', $argv, true);
try {
    $request = file_get_contents(getenv('HOBBYHORSE_REQUEST')); // as text: PHP would not keep an empty object
    if ($resume && !file_exists($noteFile)) {
        throw new Failed('failed', null, "nothing to resume: $noteFile does not exist");
    }
    $note = file_exists($noteFile) ? json_decode(file_get_contents($noteFile), true) : [
        'base_url' => rtrim(getenv('HOBBYHORSE_BASE_URL'), '/'), 'request' => $request, 'key' => bin2hex(random_bytes(16)),
        'job' => null, 'doubt' => false, 'ordered' => time(),
    ];
    if (!$resume && $note['request'] !== $request) {
        throw new Failed('error', $note['job'], "$noteFile belongs to another request: --resume collects its job");
    }
    [$job, $video] = collect(getenv('HOBBYHORSE_API_KEY'), $note, $noteFile);
    save($output, $video);
    unlink($noteFile);
    echo json_encode(['job' => $job, 'class' => 'success', 'id_exposed' => true, 'sha256' => hash('sha256', $video)]), "\n";
} catch (Failed $error) {
    if ($error->outcome === 'failed' && file_exists($noteFile)) {
        unlink($noteFile);
    }
    fwrite(STDERR, $error->getMessage() . "\n");
    echo json_encode(['job' => $error->job, 'class' => $error->outcome, 'id_exposed' => $error->job !== null, 'sha256' => null]), "\n";
    exit(1);
}
