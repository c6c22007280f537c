// A DAC board for two galvanometers and a line laser: the protocol of docs/dac_protocol.md, version 1.
//
// The first half is hardware: six functions to fit to a board. As it stands they drive a Teensy 4.x with two
// 16-bit DACs (AD5541-like, one chip select each) before +-10 V amplifiers. Compiled with -DHOST the second half
// speaks on standard input and output instead, which is how its protocol is tested; no board has run it yet.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const long FULL_URAD = 349066;      // the mechanical angle of code 32767: 20 degrees
static const uint32_t SETTLE_US = 3000;    // without a position sensor: when a move counts as done

static uint32_t nowUs();                   // since the start; wraps every 71 minutes, which differences survive
static void setAngles(int x, int y);       // codes from -32767 to 32767
static void setLaser(int permille);        // 0 = off, the enable line too
static void setTrigger(bool high);         // the camera's trigger input
static bool interlockOpen();
static int temperatureTenths();            // of a degree Celsius; -2731 = no sensor
static void say(const char *line);
static volatile bool strobed = false;      // an exposure has ended: set by an interrupt

#ifndef HOST
#include <SPI.h>
static const int CS_X = 10, CS_Y = 9, LASER_PWM = 5, LASER_ENABLE = 6, STROBE = 2, TRIGGER = 3, INTERLOCK = 4;
static void dac(int pin, int code) {
  SPI.beginTransaction(SPISettings(20000000, MSBFIRST, SPI_MODE0));
  digitalWrite(pin, LOW);
  SPI.transfer16((uint16_t)(code + 32768));
  digitalWrite(pin, HIGH);
  SPI.endTransaction();
}
static uint32_t nowUs() { return micros(); }
static void setAngles(int x, int y) { dac(CS_X, x); dac(CS_Y, y); }
static void setLaser(int permille) {
  analogWrite(LASER_PWM, permille * 255L / 1000);
  digitalWrite(LASER_ENABLE, permille > 0 ? HIGH : LOW);
}
static void setTrigger(bool high) { digitalWrite(TRIGGER, high ? HIGH : LOW); }
static bool interlockOpen() { return digitalRead(INTERLOCK) == HIGH; }  // a closed loop pulls it low
static int temperatureTenths() { return -2731; }
static void say(const char *line) { Serial.print(line); }
static void onStrobe() { strobed = true; }
#endif

struct Point { uint32_t atUs; int x, y; };
static const int MEMORY = 256, LONGEST = 96;
static int codeX, codeY, waitX, waitY, laser, points, playing = -1;
static bool waiting, stopped, parked = true;
static uint32_t begunUs, movedUs, askedUs, waveUs, triggerAtUs, watchMirrorMs = 100, watchLaserMs = 100;
static bool triggerDue;
static Point wave[MEMORY];

static uint16_t crc16(const char *text, int length) {
  uint16_t value = 0xFFFF;
  for (int i = 0; i < length; i++) {
    value ^= (uint16_t)(uint8_t)text[i] << 8;
    for (int bit = 0; bit < 8; bit++) value = value & 0x8000 ? (uint16_t)(value << 1) ^ 0x1021 : value << 1;
  }
  return value;
}

static void reply(unsigned seq, const char *words) {
  char line[LONGEST + 8];
  int length = snprintf(line, LONGEST, "%u %s", seq, words);
  snprintf(line + length, 8, "*%04X\n", crc16(line, length));
  say(line);
}

static void go(int x, int y) {
  codeX = x, codeY = y;
  setAngles(x, y);
  begunUs = movedUs = nowUs();
  parked = x == 0 && y == 0;
}

static void park() {
  waiting = triggerDue = false;
  playing = -1;
  go(0, 0);
}

static void light(int permille) {
  laser = permille;
  setLaser(permille);
}

static int faults() { return (interlockOpen() ? 1 : 0) | (stopped ? 2 : 0) | (temperatureTenths() >= 700 ? 4 : 0); }

// The whole of a word as a number within bounds; false where it is none.
static bool number(const char *word, long lo, long hi, long *value) {
  char *end;
  if (!word || !*word) return false;
  *value = strtol(word, &end, 10);
  return *end == 0 && *value >= lo && *value <= hi;
}

static const char *move(char **word, int count, char *out) {
  long x, y, us;
  if (count != 5 || !number(word[4], 0, 10000000, &us)) return "err 3 arguments";
  bool strobe = strcmp(word[3], "strobe") == 0;
  if (!strobe && strcmp(word[3], "now") != 0) return "err 3 arguments";
  if (!number(word[1], -32767, 32767, &x) || !number(word[2], -32767, 32767, &y)) return "err 4 range";
  if (stopped) return "err 6 stopped";
  playing = -1;
  waiting = strobe, waitX = x, waitY = y;
  movedUs = nowUs(), parked = false;
  if (!strobe) go(x, y), parked = false;
  triggerDue = !strobe && us > 0, triggerAtUs = nowUs() + us;
  snprintf(out, LONGEST, "ok %ld %ld", x, y);
  return out;
}

static const char *waveform(char **word, int count, char *out) {
  long us, x, y;
  if (count == 2 && strcmp(word[1], "clear") == 0) points = 0, playing = -1;
  else {
    if (count != 4) return "err 3 arguments";
    if (!number(word[2], -32767, 32767, &x) || !number(word[3], -32767, 32767, &y)) return "err 4 range";
    if (stopped) return "err 6 stopped";
    if (!number(word[1], 1, 60000000, &us)) return "err 4 range";
    if (points && wave[points - 1].atUs == (uint32_t)us) points--;  // the same again: its reply was lost
    if (points && wave[points - 1].atUs > (uint32_t)us) return "err 4 range";
    if (points == MEMORY) return "err 5 full";
    wave[points++] = {(uint32_t)us, (int)x, (int)y};
  }
  snprintf(out, LONGEST, "ok %d", MEMORY - points);
  return out;
}

static const char *lamp(char **word, int count, char *out) {
  long permille;
  light(0);  // until everything has been found good
  if (count != 2) return "err 3 arguments";
  if (!number(word[1], 0, 1000, &permille)) return "err 4 range";
  if (permille && stopped) return "err 6 stopped";
  if (permille && interlockOpen()) return "err 7 interlock";
  if (permille && faults()) return "err 9 fault";
  light(permille);
  askedUs = nowUs();
  snprintf(out, LONGEST, "ok %d %d %d", laser, laser > 0, faults());
  return out;
}

static const char *watch(char **word, int count, char *out) {
  long ms;
  if (count != 3 || !number(word[2], 0, 60000, &ms)) return "err 3 arguments";
  if (strcmp(word[1], "mirror") == 0) watchMirrorMs = ms;
  else if (strcmp(word[1], "laser") == 0 && ms > 0) watchLaserMs = ms;  // a laser is never unwatched
  else return "err 4 range";
  snprintf(out, LONGEST, "ok %ld", ms);
  return out;
}

static const char *act(char **word, int count, char *out) {
  const char *name = word[0];
  if (strcmp(name, "move") == 0) return move(word, count, out);
  if (strcmp(name, "wave") == 0) return waveform(word, count, out);
  if (strcmp(name, "laser") == 0) return lamp(word, count, out);
  if (strcmp(name, "watch") == 0) return watch(word, count, out);
  if (strcmp(name, "hello") == 0) snprintf(out, LONGEST, "ok 1 2 1 1 1 %ld %ld dac_board", FULL_URAD, FULL_URAD);
  else if (strcmp(name, "pos") == 0) {
    uint32_t age = nowUs() - begunUs;
    snprintf(out, LONGEST, "ok %d %d %d %lu", codeX, codeY, (age >= SETTLE_US) | waiting << 1, (unsigned long)age);
  } else if (strcmp(name, "state") == 0)
    snprintf(out, LONGEST, "ok %d %d %d %d", laser, laser > 0, faults(), temperatureTenths());
  else if (strcmp(name, "go") == 0) {
    if (stopped) return "err 6 stopped";
    if (points && playing < 0) playing = 0, waveUs = nowUs(), parked = false;
    return "ok";
  } else if (strcmp(name, "park") == 0) return park(), "ok";
  else if (strcmp(name, "stop") == 0) return stopped = true, light(0), park(), "ok";
  else if (strcmp(name, "clear") == 0) return stopped = false, "ok";
  else return "err 2 unknown";
  return out;
}

static void obey(char *line, int length) {
  char out[LONGEST], check[5], *word[6], *star = strrchr(line, '*');
  long seq;
  int count = 0;
  if (star) snprintf(check, sizeof check, "%04X", crc16(line, star - line));
  if (!star || line + length - star != 5 || strcmp(star + 1, check) != 0) return reply(0, "err 1 crc");
  *star = 0;
  char *text = strtok(line, " ");
  if (!number(text, 0, 65535, &seq)) return reply(0, "err 1 crc");
  while (count < 6 && (text = strtok(nullptr, " "))) word[count++] = text;
  reply(seq, count ? act(word, count, out) : "err 2 unknown");
}

static void hear(int byte) {
  static char line[LONGEST];
  static int length;
  if (byte == '\r') return;
  if (byte != '\n') {
    if (length < LONGEST) line[length++] = byte;  // a line that is too long fails its checksum
    return;
  }
  if (length && length < LONGEST) line[length] = 0, obey(line, length);
  else if (length) reply(0, "err 1 crc");
  length = 0;
}

// Whatever comes due by itself; called again and again.
static void tick() {
  uint32_t now = nowUs();
  if (strobed) {
    strobed = false;
    if (waiting) waiting = false, go(waitX, waitY), parked = false;
  }
  while (playing >= 0 && now - waveUs >= wave[playing].atUs) {
    go(wave[playing].x, wave[playing].y), parked = false;
    if (++playing == points) playing = -1, points = 0;
  }
  if (triggerDue && (int32_t)(now - triggerAtUs) >= 0) setTrigger(true), triggerDue = false;
  else if (!triggerDue && (int32_t)(now - triggerAtUs) > 20) setTrigger(false);
  now = nowUs();  // later than what was done above, or the differences wrap
  if (playing >= 0) movedUs = now;  // a waveform is no silence
  if (watchMirrorMs && !parked && now - movedUs >= watchMirrorMs * 1000) park();
  if (laser && (now - askedUs >= watchLaserMs * 1000 || faults())) light(0);
}

#ifndef HOST
void setup() {
  const int outputs[] = {CS_X, CS_Y, LASER_PWM, LASER_ENABLE, TRIGGER};
  for (int pin : outputs) pinMode(pin, OUTPUT);
  light(0);
  pinMode(INTERLOCK, INPUT_PULLUP);
  pinMode(STROBE, INPUT_PULLUP);
  attachInterrupt(digitalPinToInterrupt(STROBE), onStrobe, FALLING);
  SPI.begin();
  Serial.begin(115200);
  park();
}
void loop() {
  while (Serial.available()) hear(Serial.read());
  tick();
}
#else
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
static volatile bool doorOpen = false;
static uint32_t nowUs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint32_t)(t.tv_sec * 1000000ull + t.tv_nsec / 1000);
}
static void setAngles(int x, int y) { fprintf(stderr, "%u angles %d %d\n", nowUs(), x, y); }
static void setLaser(int permille) { fprintf(stderr, "%u laser %d\n", nowUs(), permille); }
static void setTrigger(bool) {}
static bool interlockOpen() { return doorOpen; }
static int temperatureTenths() { return 305; }
static void say(const char *line) { if (write(1, line, strlen(line)) < 0) exit(1); }
int main() {
  signal(SIGUSR1, [](int) { strobed = true; });
  signal(SIGUSR2, [](int) { doorOpen = !doorOpen; });
  park();
  for (;;) {
    pollfd in = {0, POLLIN, 0};
    char bytes[256];
    if (poll(&in, 1, 1) > 0) {
      ssize_t count = read(0, bytes, sizeof bytes);
      if (count <= 0) return 0;
      for (ssize_t i = 0; i < count; i++) hear((uint8_t)bytes[i]);
    }
    tick();
  }
}
#endif
