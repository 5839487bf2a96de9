"""IoT Hub: the REST API that services call, and the MQTT endpoint that devices dial.

errors       IoT Hub's error codes and their nested JSON
model        hubs, devices, modules
authorization  shared access signatures of policies and devices, Entra tokens
certificates  those that devices show: thumbprints, authorities
twins        what a service wishes of a device, and what the device reports
methods      direct methods: waiting, deadlines, records
service      the REST API; no HTTP of its own
server       the REST API over HTTPS
mqtt_codec   MQTT 3.1.1 packets, bytes in and values out
topics       IoT Hub's topics, text in and values out
session      one device's MQTT connection
broker       the MQTT listener
"""
