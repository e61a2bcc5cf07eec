"""What a training keeps: taken by parameter, stored in the background, resumed on any world and ZeRO stage."""
