// An ESP32 that asks the box over MQTT and shows its answer on the serial line, once for each line that is typed.
// Libraries: PubSubClient 2.8, and WiFi of the ESP32's Arduino core. Put in your own names in place of the five
// constants.

#include <WiFi.h>
#include <PubSubClient.h>

const char *const WIFI_NAME = "home";
const char *const WIFI_PASSWORD = "secret";
const char *const BROKER = "192.168.1.2";
const char *const ASK = "cloister/NODE/ask";
// The text alone, of an ask in plain text. Everybody's who asks so; with JSON and `reply_to` it is one's own.
const char *const ANSWER = "cloister/NODE/answer/text";

WiFiClient wifi;
PubSubClient mqtt(wifi);
String question;

void onAnswer(char *topic, byte *payload, unsigned int length) {
  Serial.write(payload, length);
  Serial.println();
}

void setup() {
  Serial.begin(115200);
  WiFi.begin(WIFI_NAME, WIFI_PASSWORD);
  mqtt.setServer(BROKER, 1883);
  mqtt.setCallback(onAnswer);
  // Without this, what is longer than 256 bytes never comes.
  mqtt.setBufferSize(16 * 1024);
}

void loop() {
  if (WiFi.status() != WL_CONNECTED) {
    delay(500);
    return;
  }
  if (!mqtt.connected()) {
    // A session that stays: an answer that comes while the line is down is sent later.
    if (!mqtt.connect("esp32-in-the-hall", nullptr, nullptr, nullptr, 0, false, nullptr, false)
        || !mqtt.subscribe(ANSWER, 1)) {
      delay(5000);
      return;
    }
  }
  mqtt.loop();
  // Without waiting for the end of the line: the broker wants to hear from us every 15 s.
  while (Serial.available()) {
    char typed = Serial.read();
    if (typed != '\n' && typed != '\r') {
      question += typed;
    } else if (question.length() > 0) {
      // PubSubClient publishes at QoS 0: what is asked while the broker restarts is lost, and to be asked again.
      if (!mqtt.publish(ASK, question.c_str())) {
        Serial.println("not sent; ask again");
      }
      question = "";
    }
  }
}
