#!/usr/bin/env ruby
# Generate a video with HiAPI: submit, poll and download. One file to copy; it needs Ruby 3.0 and nothing else.
# frozen_string_literal: true

require "digest"
require "ipaddr"
require "json"
require "net/http"
require "resolv"
require "securerandom"
require "socket"
require "time"
require "timeout"
require "uri"

LONGEST_WAIT, KEY_LIFE, GRACE = 600, 86_000, 60 # seconds; HiAPI forgets a key after 24 hours
LEAST_INTERVAL, INTERVAL, LONGEST_INTERVAL = 1, 3.0, 10 # seconds between polls; the interval grows by a quarter after each
TRIES = 5 # per submission, and per download
TOLERATED = { refused: 1, missing: 3, useless: 4, troubled: 8 }.freeze # bad responses in a row that the wait survives
SPEED = Float(ENV.fetch("HOBBYHORSE_SPEED", "1")) # of the fake server's clock; 1 for a real provider

PRIVATE = %w[0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16
             198.18.0.0/15 224.0.0.0/3].map { |range| IPAddr.new(range) }
OPEN = IPAddr.new("2000::/3") # only this part of IPv6 is public

# No video was returned. `outcome` is failed (final), timeout (the job goes on) or error (the outcome is unknown).
class Failed < StandardError
  attr_reader :outcome, :job

  def initialize(outcome, job, why)
    super("job #{job || 'unknown'}: #{why}")
    @outcome = outcome
    @job = job
  end
end

Response = Struct.new(:status, :body, :again) do # status 0: no response, or not all of it; -1: the request was not sent
  def to_s
    status.positive? ? "status #{status}: #{body[0, 300].force_encoding('UTF-8').scrub}" : "no response"
  end
end

UNSENT = [Errno::ECONNREFUSED, SocketError, Net::OpenTimeout, URI::Error].freeze

# The wall clock may be set, so deadlines use the monotonic one.
def now = Process.clock_gettime(Process::CLOCK_MONOTONIC) * SPEED

# Send a request, whose whole response must arrive `within` seconds. Never redirect: the key would go along.
def send_request(method, url, headers = {}, body = nil, within = 30)
  uri = URI(url)
  Timeout.timeout(within) do
    http = Net::HTTP.new(uri.hostname, uri.port, nil) # without a proxy
    http.use_ssl = uri.scheme == "https"
    http.open_timeout = 10
    http.read_timeout = within
    http.max_retries = 0 # a repeated request is the caller's decision
    response = http.start { |started| started.send_request(method, uri.request_uri, body, headers) }
    Response.new(response.code.to_i, response.body.to_s.b, seconds(response["retry-after"]))
  end
rescue *UNSENT
  Response.new(-1, "".b, nil)
rescue Timeout::Error, SystemCallError, IOError, OpenSSL::SSL::SSLError, Net::ProtocolError, Net::HTTPBadResponse, Zlib::Error, ArgumentError
  Response.new(0, "".b, nil)
end

# Return the seconds until the moment of a Retry-After, which is a number or a date; nil if there is none.
def seconds(value)
  return nil unless value
  return value.to_i if value.match?(/\A\d+\z/)

  # An HTTP-date is in GMT, also in the old form that does not say so.
  Time.parse(value.end_with?("GMT") ? value : "#{value} GMT") - Time.now
rescue ArgumentError
  nil
end

# Return the object under `data` in a 2xx response; an empty one if there is none.
def data(response)
  return {} unless response.status.between?(200, 299)

  value = JSON.parse(response.body.dup.force_encoding("UTF-8"))
  found = value.is_a?(Hash) ? value["data"] : nil
  found.is_a?(Hash) ? found : {}
rescue JSON::ParserError, EncodingError
  {}
end

# Sleep for the Retry-After, else for the interval; return false if the deadline comes first.
def pause(response, interval, deadline)
  left = deadline - now
  return false if left < LEAST_INTERVAL || (response.again || 0) > left

  wait = response.again ? [response.again * 1.02, LEAST_INTERVAL].max : interval * (1 + rand / 4)
  sleep((wait < left - LEAST_INTERVAL ? wait : left) / SPEED) # the last poll falls on the deadline
  true
end

# Submit, and return the job's id. After a lost response, submit again with the same key, which HiAPI replays.
def submit(note, headers, deadline)
  response = Response.new(0, "".b, nil)
  doubt = note["doubt"]
  headers = headers.merge("Content-Type" => "application/json", "Idempotency-Key" => note["key"])
  TRIES.times do |number|
    break if number.positive? && !pause(response, 2**number, deadline)

    response = send_request("POST", "#{note['base_url']}/v1/tasks", headers, JSON.generate(note["request"]))
    job = data(response)["taskId"]
    return job if job.is_a?(String) && !job.empty?

    refused = response.status.between?(300, 499)
    under_way = response.status == 409 && response.body.include?("IDEMPOTENCY_KEY_PROCESSING")
    doubt ||= !([-1, 429, 503].include?(response.status) || (refused && ![408, 409].include?(response.status)))
    break if (refused && !under_way && ![408, 425, 429].include?(response.status)) || response.body.include?("TASK_FAILED")
  end
  raise Failed.new(doubt ? "error" : "failed", nil, "the submission with the key #{note['key']} was not accepted: #{response}")
end

# Poll until the job has succeeded; return the video's URL, empty if there is none.
def wait(note, headers, deadline)
  response = Response.new(0, "".b, nil)
  interval = INTERVAL
  seen = false
  failures = Hash.new(0)
  while pause(response, interval, deadline)
    response = send_request("GET", "#{note['base_url']}/v1/tasks/#{URI.encode_www_form_component(note['job'])}", headers)
    found = data(response)
    stage = found["status"]
    return video_url(found["output"]) if stage == "success"
    raise Failed.new("failed", note["job"], response.to_s) if stage == "fail"

    if stage.is_a?(String) && !stage.empty? # in progress, or an undocumented stage
      seen = true
      failures.clear
    else
      kind = classify(response.status, seen)
      failures[kind] += 1
      raise Failed.new("error", note["job"], "its status cannot be read: #{response}") if failures[kind] > TOLERATED[kind]
    end
    interval = [interval * 1.25, LONGEST_INTERVAL].min
  end
  raise Failed.new("timeout", note["job"], "it is not done after #{LONGEST_WAIT} s; last response: #{response}")
end

# Return the URL of the first output that is a video; without types, that of the first one.
def video_url(output)
  outputs = output.is_a?(Array) ? output.grep(Hash) : []
  url = (outputs.find { |one| one["type"] == "video" } || outputs[0] || {})["url"]
  url.is_a?(String) ? url : ""
end

# Classify a response without a stage; `seen`: an earlier response had one.
def classify(status, seen)
  return :troubled if status <= 0 || status >= 500 || [408, 425, 429].include?(status)
  return :useless if status < 300

  status == 404 && !seen ? :missing : :refused
end

# Download the video without the key; return nil if the link has expired.
def download(note, url)
  raise Failed.new("error", note["job"], "the URL of its video is not public") unless public_url?(url, note["base_url"])

  response = Response.new(0, "".b, nil)
  deadline = now + LONGEST_WAIT
  TRIES.times do |number|
    break if number.positive? && !pause(response, 2**number, deadline)

    response = send_request("GET", url, {}, nil, 300)
    return response.body if response.status == 200 && mp4?(response.body)
    return nil if [403, 410].include?(response.status)
  end
  raise Failed.new("error", note["job"], "its video cannot be downloaded: status #{response.status}, #{response.body.bytesize} bytes")
end

# Return whether a URL is safe to fetch: http(s), on a public address or on the API's own host.
def public_url?(url, base)
  uri = URI(url)
  return false unless %w[http https].include?(uri.scheme) && uri.hostname
  return true if uri.hostname == URI(base).hostname

  found = Addrinfo.getaddrinfo(uri.hostname, nil, nil, :STREAM).map { |one| IPAddr.new(one.ip_address.sub(/%.*/, "")) }
  found.any? && found.all? { |ip| ip.ipv4? ? PRIVATE.none? { |range| range.include?(ip) } : OPEN.include?(ip) }
rescue URI::Error, SocketError, IPAddr::Error
  false
end

# Return whether bytes are a complete MP4 file: its boxes fill it exactly.
def mp4?(bytes)
  kinds = []
  at = 0
  while at + 8 <= bytes.bytesize
    size = bytes.byteslice(at, 4).unpack1("N")
    if size == 1
      size = at + 16 <= bytes.bytesize ? bytes.byteslice(at + 8, 8).unpack1("Q>") : 0
    elsif size.zero?
      size = bytes.bytesize - at
    end
    kinds << bytes.byteslice(at + 4, 4)
    at += [size, 8].max
  end
  at == bytes.bytesize && kinds[0] == "ftyp" && kinds.include?("moov") && kinds.include?("mdat")
end

# Write a file atomically.
def save(path, content)
  File.binwrite("#{path}.part", content)
  File.rename("#{path}.part", path)
end

# Submit if the note has no job, saving the note before and after; wait for the job; return its video.
def collect(api_key, note, note_file)
  headers = { "Authorization" => "Bearer #{api_key}" }
  deadline = now + LONGEST_WAIT
  unless note["job"]
    if Time.now.to_i - note["ordered"] > KEY_LIFE
      raise Failed.new("error", nil, "the key #{note['key']} is too old: HiAPI would not replay it, but make a second job")
    end
    save(note_file, JSON.generate(note.merge("doubt" => true)))
    note = note.merge("job" => submit(note, headers, deadline))
    save(note_file, JSON.generate(note))
  end
  repeated = []
  loop do # a missing URL gets one more poll, and so does an expired one
    url = wait(note, headers, deadline)
    video = url.empty? ? nil : download(note, url)
    return [note["job"], video] if video

    if repeated.include?(url.empty?)
      raise Failed.new(url.empty? ? "failed" : "error", note["job"], "it has succeeded, but its video is missing")
    end
    repeated << url.empty?
    deadline = [deadline, now + GRACE].max
  end
end

output = ENV.fetch("HOBBYHORSE_OUTPUT")
note_file = "#{output}.job"
resume = ARGV.include?("--resume")
begin
  request = JSON.parse(File.read(ENV.fetch("HOBBYHORSE_REQUEST"), encoding: "UTF-8"))
  raise Failed.new("failed", nil, "nothing to resume: #{note_file} does not exist") if resume && !File.exist?(note_file)

  note = { "base_url" => ENV.fetch("HOBBYHORSE_BASE_URL").chomp("/"), "request" => request, "key" => SecureRandom.uuid,
           "job" => nil, "doubt" => false, "ordered" => Time.now.to_i }
  note = JSON.parse(File.read(note_file, encoding: "UTF-8")) if File.exist?(note_file)
  unless resume || note["request"] == request
    raise Failed.new("error", note["job"], "#{note_file} belongs to another request: --resume collects its job")
  end
  job, video = collect(ENV.fetch("HOBBYHORSE_API_KEY"), note, note_file)
  save(output, video)
  File.delete(note_file)
  puts JSON.generate("job" => job, "class" => "success", "id_exposed" => true, "sha256" => Digest::SHA256.hexdigest(video))
rescue Failed => e
  File.delete(note_file) if e.outcome == "failed" && File.exist?(note_file)
  warn e.message
  puts JSON.generate("job" => e.job, "class" => e.outcome, "id_exposed" => !e.job.nil?, "sha256" => nil)
  exit 1
end
